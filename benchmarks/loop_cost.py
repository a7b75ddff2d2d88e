"""Measures what the harness adds to a bare training loop, on convolutional networks.

Both train the same trial on the same batches, in turn, in one process. The bare loop has only what
the steps need, and measures accuracy and loss equally often.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.side_by_side import spread
from benchmarks.stacks import Setting, resolved

if TYPE_CHECKING:
    from harness.training.setup import TrainingSetup

MODELS: tuple[dict[str, Any], ...] = (
    {"name": "bn_cnn"},
    {"name": "cnn", "channels": [32, 32]},
)
MAX_OVERHEAD = 0.03


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the harness's time over the bare loop's, for each model: median [lowest, highest]."""
    import torch

    from harness.core.paths import data_root
    from harness.experiment.trial import Trial
    from harness.training.loop import train
    from harness.training.setup import TrainingSetup

    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop_cost", description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--limit", type=int, default=12_000, help="training examples")
    options = parser.parse_args([] if arguments is None else arguments)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}", flush=True)
    for model in MODELS:
        dataset = {"name": "mnist", "limit": options.limit, "test_limit": 2000}
        setting = Setting("loop", {"dataset": dataset, "model": model, "epochs": 1}, 0)
        trial = Trial.of(resolved(setting, "momentum", 0.01, 1.0, 0))
        ratios = []
        for _ in range(options.repeats + 1):
            ours = _timed(lambda trial=trial: list(train(TrainingSetup(trial, data_root()))))
            theirs = _timed(lambda trial=trial: train_bare(TrainingSetup(trial, data_root())))
            ratios.append(ours / theirs)
        verdict = "holds" if median(ratios[1:]) <= 1 + MAX_OVERHEAD else "is missed"
        name = model["name"]
        print(f"{name}: {spread(ratios[1:])} of a bare loop; at most {1 + MAX_OVERHEAD}: {verdict}")


def train_bare(parts: TrainingSetup) -> list[float]:
    """Trains one epoch. Evaluates before and after it, and on the training examples."""
    import torch

    train, evaluated = parts.data.train, parts.data.evaluated()
    metrics = [_measure(parts, split) for split in evaluated.values()]
    order = torch.randperm(len(train))
    outputs, losses, targets = [], [], []
    for inputs, wanted in train.batches(parts.trial.batch_size, order):
        logits = parts.model(inputs)
        loss = parts.loss(logits, wanted)
        parts.optimizer.torch.zero_grad()
        loss.mean().backward()
        parts.optimizer.torch.step()
        outputs.append(logits.detach())
        losses.append(loss.detach())
        targets.append(wanted)
    hits = torch.cat(outputs).argmax(1) == torch.cat(targets)
    metrics += [float(torch.cat(losses).mean()), float(hits.float().mean())]
    metrics += [_measure(parts, split) for split in evaluated.values()]
    return [*metrics, _measure(parts, train)]


def _measure(parts: TrainingSetup, split: Any) -> float:
    import torch

    parts.model.eval()
    hits, loss = 0, 0.0
    with torch.inference_mode():
        for inputs, wanted in split.batches(parts.trial.eval_batch_size):
            logits = parts.model(inputs)
            loss += float(parts.loss(logits, wanted).sum())
            hits += int((logits.argmax(1) == wanted).sum())
    parts.model.train()
    return hits / len(split)


def _timed(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
