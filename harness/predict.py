"""`python -m harness.predict RUN [FILES…]`: a trained model on the test split, or on files."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.cli.flags import OK, run_command

EPILOG = """\
RUN is a run's id, a trial's id, the beginning of either, or an experiment's name: its best run
that has weights. Which runs have them is decided by `artifacts:` in the experiment file.
exit codes: 0 predicted; 2 no such run, no weights, or a file that the model cannot read.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m harness.predict",
        description="Predict with a trained model: the test split, or images or tables of yours.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("run", metavar="RUN", help="which trained model")
    made.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="images, or CSV tables of features; the test split by default",
    )
    made.add_argument(
        "--output", type=Path, metavar="DIR", help="default: predictions/<run> in the project"
    )
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))

    from harness.core.paths import data_root, project_root
    from harness.inference.model import Trained
    from harness.inference.outputs import write_files, write_test
    from harness.inference.run_choice import choose
    from harness.store.read.run_details import fetch_weights
    from harness.store.store import open_existing_store

    store = open_existing_store()
    chosen = choose(store, arguments.run)
    _say(f"{chosen.name} of {chosen.experiment} (run {chosen.run_id})")
    if chosen.ranked:
        last = chosen.resolved["epochs"]
        _say(f"ranked at {chosen.ranked}; the weights are of the last epoch, {last}")
    weights = fetch_weights(store, chosen.run_id)
    if weights is None:
        raise chosen.without_weights(store)
    trained = Trained.of(chosen, weights, data_root(), arguments.device)
    folder = arguments.output or _folder(
        project_root() / "predictions", chosen.run_id, arguments.files
    )
    lines = (
        write_files(folder, trained, arguments.files)
        if arguments.files
        else write_test(folder, trained)
    )
    for line in lines:
        _say(line)
    return OK


def _folder(base: Path, run_id: str, files: Sequence[Path]) -> Path:
    """A folder for each run; its predictions on files do not replace those on the test split."""
    folder = base / re.sub(r"[^\w-]", "_", run_id)[:12]
    return folder / "files" if files else folder


def _say(line: str) -> None:
    """What the terminal's encoding lacks becomes a question mark, not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    print(line)


if __name__ == "__main__":
    sys.exit(main())
