"""`python -m harness`: lists the commands and the registered components, or runs a command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
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
    "check": "FILE [key=value…]  check the components of a file's own code",
    "components": "[FILE] [NAME…]      list the components, or those of a file, with their options",
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
        arguments = components_parser().parse_args(rest)
        print(list_components(arguments.names))
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

    names: kinds ("models" or "model") and components; without any, all are listed. An experiment
        file may stand first: then those of its own code are.
    Raises InputError for a name that is neither, and for a file whose code cannot be run.
    """
    from harness.components.base import KINDS, SINGULAR
    from harness.components.registry import components
    from harness.core.paths import EXPERIMENT_SUFFIXES

    listed_of: Callable[[str], Mapping[str, Component]] = components
    if names and names[0].endswith(EXPERIMENT_SUFFIXES):
        listed_of, names = _own_components(Path(names[0])), names[1:]
    registered = {name for kind in KINDS for name in listed_of(kind)}
    plural_or_component = [name for name in names if name not in SINGULAR.values()]
    known, rule = (*KINDS, *registered), "no component or kind of component is named"
    require_known(plural_or_component, known, rule)
    lines: list[str] = []
    for kind in KINDS:
        whole_kind = not names or kind in names or SINGULAR[kind] in names
        listed = [c for name, c in listed_of(kind).items() if whole_kind or name in names]
        if listed:
            lines += [kind, *(line for component in listed for line in _describe(component)), ""]
    return "\n".join(lines) or "the file names no code of its own"


def _own_components(path: Path) -> Callable[[str], Mapping[str, Component]]:
    """Returns the components of the code that a file names, by kind. The file's other fields may
    have problems still."""
    from harness.components.registry import named_components
    from harness.core.errors import InputError
    from harness.experiment.loading import load
    from harness.experiment.reading.file import load_code, read_file

    load_code(read_file(path))
    with suppress(InputError):
        load(path)  # Notes the components that the file names by their place.

    def of_kind(kind: str) -> Mapping[str, Component]:
        return {name: c for name, c in named_components(kind).items() if c.code}

    return of_kind


def _describe(component: Component) -> list[str]:
    lines = [f"  {component.name}: {component.description}"]
    for name, field in component.options.model_fields.items():
        default = repr(field.get_default(call_default_factory=True))
        value = "must be given" if field.is_required() else default
        lines.append(f"      {name} = {value}  {field.description or ''}".rstrip())
    if component.options.model_config.get("extra") == "allow":
        lines.append("      … and keyword arguments of any other name")
    return lines


def components_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command `components`."""
    parser = argparse.ArgumentParser(
        prog="python -m harness components",
        description="List the components with their options.",
        epilog="exit codes: 0 listed; 2 no such component, or a file whose code cannot be run.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="FILE, KIND or NAME",
        help="an experiment file, first, lists the components of its own code, which runs that "
        "code; kinds (models) and names of components list these alone",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
