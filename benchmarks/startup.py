"""How long commands take: `--help`, a dry run of 10,000 trials, a sweep with nothing to do."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.timing import time_processes

GRID = """\
name: large
trial: {dataset: digits, model: mlp, epochs: 1}
grid:
  optimizer: [sgd, momentum, nesterov, adam, adamw]
  lr: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1, 3]
  scheduler: [constant, cosine, step, linear]
  batch_size: [32, 64, 128, 256, 512]
  seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""
SMALL = """\
name: small
trial: {dataset: iris, model: perceptron, optimizer: sgd, lr: 0.1, epochs: 1}
grid: {seed: [0, 1]}
artifacts: none
"""


def main() -> None:
    """Prints the times of whole processes, Python's start-up included."""
    python = [sys.executable, "-m"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mlruns").mkdir()
        (folder / "large.yaml").write_text(GRID)
        (folder / "small.yaml").write_text(SMALL)
        small = [*python, "harness.sweep", "small.yaml", "--executor", "inline"]
        times_by_command = time_processes(
            {
                "python -c pass": [sys.executable, "-c", "pass"],
                "harness.sweep --help": [*python, "harness.sweep", "--help"],
                "harness.compare --help": [*python, "harness.compare", "--help"],
                "harness.predict --help": [*python, "harness.predict", "--help"],
                "--dry-run of 10,000 trials": [*python, "harness.sweep", "large.yaml", "--dry-run"],
                "a sweep with nothing to do": small,
            },
            cwd=folder,
        )
    for command, times in times_by_command.items():
        print(f"{command:<28} {times}")


if __name__ == "__main__":
    main()
