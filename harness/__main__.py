"""`python -m harness`: lists the commands and the registered components, or runs a command."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.cli.flags import OK, run_command
from harness.core.errors import require_known

if TYPE_CHECKING:
    from harness.components.base import Component

COMMANDS: Mapping[str, str] = {
    "sweep": "FILE [key=value…]  run the trials of a grid that are not done yet",
    "search": "FILE [key=value…]  tune each optimizer with the same budget (search: block)",
    "compare": "[NAME or FILE…]    rank what was run, with its spread over seeds",
    "predict": "RUN [FILES…]       apply a trained model to the test split or to files",
    "doctor": "[NAME…]            check the installation and the store; --fix repairs",
    "components": "[KIND or NAME…]    list the registered components with their options",
}
USAGE = """\
usage: python -m harness COMMAND …     (or python -m harness.COMMAND …)

commands:
{commands}

`COMMAND --help` lists the flags of a command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point of the script `harness`. Returns an exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    if not argv:
        print(_usage())
        print(list_components(()))
        return OK
    command, *rest = argv
    if command in ("-h", "--help"):
        print(_usage())
    elif command == "components":
        print(list_components(rest))
    else:
        require_known([command], COMMANDS, "no command")
        exit_code: int = importlib.import_module(f"harness.{command}").main(rest)
        return exit_code
    return OK


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return USAGE.format(commands="\n".join(lines))


def list_components(names: Sequence[str]) -> str:
    """Returns the components with their options, as text.

    names: kinds ("models" or "model") and components; without any, all are listed.
    Raises InputError for a name that is neither.
    """
    from harness.components.base import KINDS
    from harness.components.registry import SINGULAR, components

    registered = {name for kind in KINDS for name in components(kind)}
    plural_or_component = [name for name in names if name not in SINGULAR.values()]
    known, rule = (*KINDS, *registered), "no component or kind of component is named"
    require_known(plural_or_component, known, rule)
    lines: list[str] = []
    for kind in KINDS:
        whole_kind = not names or kind in names or SINGULAR[kind] in names
        listed = [c for name, c in components(kind).items() if whole_kind or name in names]
        if listed:
            lines += [kind, *(line for component in listed for line in _describe(component)), ""]
    return "\n".join(lines)


def _describe(component: Component) -> list[str]:
    lines = [f"  {component.name}: {component.description}"]
    for name, field in component.options.model_fields.items():
        default = field.get_default(call_default_factory=True)
        lines.append(f"      {name} = {default!r}  {field.description or ''}".rstrip())
    return lines


if __name__ == "__main__":
    sys.exit(main())
