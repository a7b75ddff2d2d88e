"""Flags, exit codes and error messages that all commands share."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from textwrap import indent
from typing import Any

from harness.core.errors import HarnessError, InputError, Problem, did_you_mean
from harness.core.process import INTERRUPTED, Stopped

OK = 0
SOME_FAILED = 1


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> int:
    """Runs a command and returns its exit code; prints errors to stderr without a traceback.

    Exit codes: 0 all done, 1 some trial failed, 2 bad input, 130 interrupted.

    argv: the command's arguments; None takes those of the process.
    """
    _accept_any_text()
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except HarnessError as error:
        text = str(error)
        if isinstance(error, InputError) and len(error.problems) > 1:
            text = f"{len(error.problems)} problems\n{indent(text, '  ')}"
        print(f"error: {text}", file=sys.stderr)
        return error.exit_code
    except Stopped as error:
        print(f"error: {error}", file=sys.stderr)
        return SOME_FAILED
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe (`| head`); the flush at exit must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (ImportError, AttributeError) as error:
        hiding = _hiding_python(Path.cwd())
        if not hiding:
            raise
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        hint = "it has the name of a module of Python's own, and hides it: rename it"
        print(f"    {hiding[0]} is in this folder: {hint}", file=sys.stderr)
        return InputError.exit_code


def _hiding_python(folder: Path) -> list[str]:
    """Returns the Python files of a folder that have the name of a standard module. `python -m`
    looks for modules in the current folder first."""
    files = sorted(path.name for path in folder.glob("*.py"))
    return [name for name in files if name.removesuffix(".py") in sys.stdlib_module_names]


def _accept_any_text() -> None:
    """Lets standard output take any text: a character that its encoding lacks becomes a question
    mark, not an error that ends a finished sweep. Output that is closed is discarded."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the exit
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def add_training_flags(parser: argparse.ArgumentParser, fuse: str, workers: str = "") -> None:
    """Adds the flags of every command that trains.

    fuse: the help of `--fuse`. workers: appended to the help of `--workers`.
    """
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="number of trials that train at the same time on the CPU (default: one per core)"
        f"{workers}",
    )
    parser.add_argument(
        "--slots",
        type=_positive,
        default=1,
        metavar="N",
        help="number of trials that train at the same time on each GPU (default: 1)",
    )
    parser.add_argument(
        "--exclusive",
        action="store_true",
        help="train one trial at a time on each device, so that training times are comparable",
    )
    parser.add_argument(
        "--executor",
        choices=("inline", "process", "ray"),
        help="train in this process, in worker processes, or on a Ray cluster (default: inline for "
        "one trial at a time, otherwise process)",
    )
    parser.add_argument(
        "--address", help="address of the Ray cluster (default: start one on this machine)"
    )
    parser.add_argument(
        "--fuse",
        type=_stack_size,
        default="off",
        metavar="auto|off|K",
        help=fuse,
    )
    parser.add_argument(
        "--fail-fast",
        action="store_true",
        help="stop at the first trial that fails, as Ctrl-C would; the exit code is 1",
    )
    parser.add_argument(
        "--checkpoint-every",
        type=_seconds,
        metavar="SECONDS",
        help="training time between two checkpoints of a trial (default: 20 s, or longer where "
        "writing a checkpoint takes more than 2 %% of it; 0: as often as possible)",
    )


def from_keywords(parser: argparse.ArgumentParser, given: Mapping[str, Any]) -> argparse.Namespace:
    """Returns what the parser would of a command line with these values, each by its flag's name
    with underscores. None stands for a flag that is left out.

    Raises InputError for values that a flag does not take, and flags that do not go together.
    """
    actions = {action.dest: action for action in parser._actions}
    values = {name: action.default for name, action in actions.items() if name != "help"}
    problems = []
    for name, value in given.items():
        try:
            if value is not None:
                values[name] = _convert(actions[name], value)
        except argparse.ArgumentTypeError as error:
            problems.append(Problem(f"{name}: {error}"))
    for group in parser._mutually_exclusive_groups:
        both = [action.dest for action in group._group_actions if given.get(action.dest)]
        if len(both) > 1:
            problems.append(Problem(f"{' and '.join(both)} do not go together"))
    if problems:
        raise InputError(problems)
    return argparse.Namespace(**values)


def _convert(action: argparse.Action, value: Any) -> Any:
    """Raises ArgumentTypeError for a value that a flag does not take."""
    if action.nargs == 0:
        if isinstance(value, bool):
            return value
        raise argparse.ArgumentTypeError(f"{value!r} is not True or False")
    convert: Any = action.type or str
    converted = convert(str(value))
    if action.choices is not None and converted not in action.choices:
        raise argparse.ArgumentTypeError(
            f"{value!r} is not known; {did_you_mean(str(value), action.choices)}"
        )
    return converted


def check_training_flags(arguments: argparse.Namespace) -> None:
    """Raises InputError if the flags of `add_training_flags` contradict each other."""
    if arguments.fuse != "off" and arguments.executor == "ray":
        raise InputError(
            "--fuse: Ray trains trials one by one; leave out either --executor ray or --fuse"
        )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _stack_size(text: str) -> int | str:
    try:
        return text if text in ("auto", "off") else _positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, auto or off") from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not (isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value
