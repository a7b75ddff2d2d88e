"""`python -m harness`: the commands, and every registered component with its options."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.cli.flags import BAD_INPUT, OK, run_command

if TYPE_CHECKING:
    from harness.components.base import Component

COMMANDS: Mapping[str, str] = {
    "sweep": "FILE [key=value…]     run what is not done yet",
    "search": "FILE [key=value…]    tune each optimizer with the same budget (search: block)",
    "compare": "[NAME or FILE…]     rank what was run, with its spread over seeds",
    "predict": "RUN [FILES…]        a trained model on the test split or on files",
    "doctor": "[NAME…]             is the set-up sound, and the store? --fix mends",
    "components": "[KIND or NAME…]  every registered component with its options",
}
USAGE = """\
usage: python -m harness COMMAND …     (or python -m harness.COMMAND …)

commands:
{commands}

`COMMAND --help` says more.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point `harness`; returns an exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    if not argv:
        print(_usage())
        print(listing(()))
        return OK
    command, *rest = argv
    if command in ("-h", "--help"):
        print(_usage())
        return OK
    if command == "components":
        print(listing(rest))
        return OK
    if command in COMMANDS:
        run = importlib.import_module(f"harness.{command}")
        code: int = run.main(rest)
        return code
    from harness.core.errors import did_you_mean

    print(f"error: no command {command!r}\n    {did_you_mean(command, COMMANDS)}", file=sys.stderr)
    return BAD_INPUT


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return USAGE.format(commands="\n".join(lines))


def listing(wanted: Sequence[str]) -> str:
    """Components as text: all, those of a kind, or single ones by name."""
    from harness.components.base import KINDS
    from harness.components.registry import SINGULAR, components
    from harness.core.errors import InputError, Problem, did_you_mean

    singular = {name: kind for kind, name in SINGULAR.items()}
    names = {name for kind in KINDS for name in components(kind)}
    unknown = [w for w in wanted if w not in KINDS and w not in singular and w not in names]
    if unknown:
        allowed = (*KINDS, *names)
        raise InputError(
            [Problem(f"no kind or component {u!r}", hint=did_you_mean(u, allowed)) for u in unknown]
        )
    lines: list[str] = []
    for kind in KINDS:
        whole = not wanted or kind in wanted or SINGULAR[kind] in wanted
        chosen = [c for name, c in components(kind).items() if whole or name in wanted]
        if chosen:
            lines += [kind, *(line for c in chosen for line in _described(c)), ""]
    return "\n".join(lines)


def _described(component: Component) -> list[str]:
    lines = [f"  {component.name}: {component.description}"]
    for name, field in component.options.model_fields.items():
        default = field.get_default(call_default_factory=True)
        lines.append(f"      {name} = {default!r}  {field.description or ''}".rstrip())
    return lines


if __name__ == "__main__":
    sys.exit(main())
