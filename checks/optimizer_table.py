"""Trains every optimizer of pytorch-optimizer, stops it, resumes it, and says which end the same.

python -m checks.optimizer_table             prints what docs/optimizers.md says of them
python -m checks.optimizer_table --write     brings the page up to date
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch

from harness.core.errors import InputError
from harness.core.metrics import MACHINE_DEPENDENT
from harness.core.paths import data_root
from harness.core.records import Ended, Measured
from harness.experiment.loading import load
from harness.experiment.plan import make_plan
from harness.experiment.trial import Trial
from harness.training.checkpoint import Checkpoint, CheckpointPolicy, UnusableCheckpoint, restore
from harness.training.loop import train
from harness.training.setup import TrainingSetup

PACKAGE: Final = "pytorch_optimizer"
PAGE: Final = Path("docs/optimizers.md")
FILE: Final = """
trial: {{dataset: digits, epochs: 3, batch_size: 256, lr: 0.01, optimizer: "{name}"}}
grid:
  model: [{{name: bn_cnn, first: 2, second: 2}}, {{name: mlp, hidden: [16], dropout: 0.3}}]
"""
CUTS: Final = ((1, 3), (2, 0))
"""Where training stops: inside the second epoch of three, and after it."""
NAME: Final = re.compile(rf"^.*{PACKAGE}:\w+:? ")
HINT: Final = re.compile(r"(; if it wants parameter groups|: write a function around it).*$")
PLACE: Final = re.compile(r" \(\w+\.py:\d+\)$")
"""Where a package has the class."""
REQUIRED: Final = re.compile(r"^trial\.optimizer\.(\w+): is required$")
BLOCK: Final = re.compile(r"(<!-- optimizers -->\n).*?(<!-- end -->)", re.DOTALL)


def names() -> list[str]:
    """Returns the optimizers of the package's own, in alphabetical order."""
    package = __import__(PACKAGE)
    own = [
        name
        for name, value in vars(package).items()
        if isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and value.__module__.startswith(PACKAGE)
    ]
    return sorted(own, key=str.lower)


def outcome(name: str) -> tuple[str, str]:
    """Returns why an optimizer does not train, stop and resume to the last bit, and why it does not
    stack; "" where it does."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "one.yaml"
        file.write_text(FILE.format(name=f"{PACKAGE}:{name}"), encoding="utf-8")
        try:
            trials = [planned.trial for planned in make_plan(load(file), data_root()).trials]
        except InputError as error:
            reason = PLACE.sub("", HINT.sub("", NAME.sub("", error.problems[0].what)))
            return REQUIRED.sub(r"needs \1", reason), ""
    choice = trials[0].optimizer
    stacks = choice.component.one_by_one(choice.options)
    try:
        return next(filter(None, map(_resumes, trials)), ""), stacks
    except RuntimeError as error:
        return f"fails: {error}", stacks


def _resumes(trial: Trial) -> str:
    """Returns how a trial that is stopped and resumed differs from one that is not."""
    whole = list(_values(TrainingSetup(trial, data_root())))
    for item in train(TrainingSetup(trial, data_root()), policy=CheckpointPolicy(0)):
        if not isinstance(item, Checkpoint) or (item.epoch, item.batch) not in CUTS:
            continue
        buffer = io.BytesIO()
        torch.save(item.state, buffer)
        buffer.seek(0)
        setup = TrainingSetup(trial, data_root())
        try:
            resumed = restore(setup, torch.load(buffer, weights_only=True))
        except UnusableCheckpoint as error:
            return f"trains, and does not resume: {error}"
        rest = list(_values(setup, resumed))
        if rest != whole[len(whole) - len(rest) :]:
            return "trains, and resumes to other numbers"
    return ""


def _values(setup: TrainingSetup, resumed: Any = None) -> Iterator[object]:
    """Yields the numbers of each record, and the final weights, without clocks."""
    for record in train(setup, True, resumed=resumed):
        if isinstance(record, Measured):
            yield {k: v for k, v in record.values.items() if not k.startswith(MACHINE_DEPENDENT)}
        elif isinstance(record, Ended):
            weights = record.test_outputs.state_dict if record.test_outputs else {}
            yield record.outcome, {name: value.tolist() for name, value in weights.items()}


def text() -> str:
    """Returns what the page says: those that resume, and a table of the others."""
    found = {name: outcome(name) for name in names()}
    good = [f"`{name}`" for name, (reason, _) in found.items() if not reason]
    alone = [f"`{name}` ({why})" for name, (_, why) in found.items() if why]
    rows = [f"| `{name}` | {reason} |" for name, (reason, _) in found.items() if reason]
    return "\n".join(
        [
            f"{len(good)} of {len(found)} train, stop and resume to the bit: {', '.join(good)}.",
            "",
            f"Of these, {len(alone)} train one by one, as a stack cannot: {', '.join(alone)}.",
            "",
            "| the others | why not |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the text, or writes it into the page."""
    parser = argparse.ArgumentParser(prog="python -m checks.optimizer_table")
    parser.add_argument("--write", action="store_true", help=f"write it into {PAGE}")
    torch.set_num_threads(1)
    if not parser.parse_args(argv).write:
        sys.stdout.write(text())
        return 0
    content = text()
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: m[1] + content + m[2], page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
