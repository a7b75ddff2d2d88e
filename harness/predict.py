"""`python -m harness.predict RUN [FILES…]`: a trained model predicts the test split, or files."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.cli.flags import OK, run_command

EPILOG = """\
RUN is a run's id, a trial's id, the beginning of either, or an experiment's name: its best run
that has weights. `artifacts:` in the experiment file decides which runs have weights.
exit codes: 0 predicted; 2 no such run, no weights, or a file that the model cannot read.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.predict",
        description="Predict with a trained model: the test split, or images or tables of yours.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="the run whose trained model predicts")
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="images, or CSV tables of features; the test split by default",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the predictions (default: predictions/<run>)",
    )
    parser.add_argument(
        "--experiment",
        type=Path,
        metavar="FILE",
        help="the experiment file that names the run's code, if it was trained with code of yours: "
        "it is run if it is what the run was trained with",
    )
    parser.add_argument(
        "--device", default="auto", help="predict on auto, cpu, cuda, cuda:N or mps"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))

    from harness.core.paths import data_root, project_root
    from harness.inference.outputs import predict_files, predict_test
    from harness.inference.trained_code import use_code
    from harness.inference.trained_model import TrainedModel, find_run
    from harness.store.store import open_existing_store

    store = open_existing_store()
    run = find_run(store, arguments.run)
    print(f"{run.name} of {run.experiment} (run {run.run_id})")
    if run.ranked:
        last = run.resolved["epochs"]
        print(f"this run ranks by {run.ranked}; its weights are from the last epoch, {last}")
    use_code(store, run, arguments.experiment)
    weights = run.load_weights(store)
    model = TrainedModel.rebuild(run, weights, data_root(), arguments.device)
    folder = arguments.output
    if folder is None:
        folder = project_root() / "predictions" / re.sub(r"[^\w-]", "_", run.run_id)[:12]
        if arguments.files:  # They do not replace the predictions of the test split.
            folder /= "files"
    files = arguments.files
    for line in predict_files(folder, model, files) if files else predict_test(folder, model):
        print(line)
    return OK


if __name__ == "__main__":
    sys.exit(main())
