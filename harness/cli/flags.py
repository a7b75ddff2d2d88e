"""What all commands share at their edge: errors become messages, and exit codes keep their word."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from math import isfinite, nan

from harness.core.errors import HarnessError, InputError
from harness.core.interrupts import INTERRUPTED

OK = 0
SOME_FAILED = 1
BAD_INPUT = 2


def positive(text: str) -> int:
    """A whole number from 1; argparse tells the user where it is not."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds, from 0; argparse tells the user where it is not."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not (isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0")
    return value


def stack_size(text: str) -> int | str:
    """`--fuse`: a number, "auto" or "off"."""
    return text if text in ("auto", "off") else positive(text)


def dispatch_flags(made: argparse.ArgumentParser, fuse: str, workers: str = "") -> None:
    """What every command that trains asks of dispatch. fuse: the help of `--fuse`. workers: what
    the help of `--workers` ends with."""
    made.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help=f"trials trained at once on the CPU (default: one a core){workers}",
    )
    made.add_argument(
        "--slots",
        type=positive,
        default=1,
        metavar="N",
        help="trials trained at once on each GPU (default: 1)",
    )
    made.add_argument(
        "--exclusive",
        action="store_true",
        help="one trial at a time on each device, so that their times can be compared",
    )
    made.add_argument(
        "--executor",
        choices=("inline", "process", "ray"),
        help="train in this process, in worker processes, or on a Ray cluster (default: by the "
        "number of workers)",
    )
    made.add_argument(
        "--address", help="of the Ray cluster (default: one is started on this machine)"
    )
    made.add_argument(
        "--fuse",
        type=stack_size,
        default="off",
        metavar="auto|off|K",
        help=fuse,
    )
    made.add_argument(
        "--checkpoint-every",
        type=seconds,
        metavar="SECONDS",
        help="training between two checkpoints of a trial (default: 20 s, more where writing one "
        "takes over 2 %% of that; 0: at every chance)",
    )


def refuse_stacks_on_ray(arguments: argparse.Namespace) -> None:
    """Raises InputError where `dispatch_flags` ask for both."""
    if arguments.fuse != "off" and arguments.executor == "ray":
        raise InputError("--fuse: Ray trains trials one by one; leave --executor or --fuse out")


def guard(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> int:
    """Run a command; what the harness refuses is told on stderr, without a traceback.

    Returns its exit code: 0 all done, 1 some trial failed, 2 bad input, 130 interrupted.
    """
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except InputError as error:
        many = len(error.problems) > 1
        title = f"error: {len(error.problems)} problems\n" if many else "error: "
        text = "\n".join(f"  {line}" for line in str(error).splitlines()) if many else str(error)
        print(title + text, file=sys.stderr)
        return error.exit_code
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: run the same command again and it goes on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`); nothing more can be said, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
