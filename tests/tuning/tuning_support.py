"""Small searches, run in this process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from harness import search
from harness.experiment.loading import load
from harness.experiment.plan import plan_bases
from harness.tuning.study_plan import StudyPlan, plan_studies

FILE = """\
name: small
trial: {dataset: iris, model: {name: mlp, hidden: [4]}, lr: 0.01, epochs: 2, val_fraction: 0.3}
grid: {optimizer: [sgd, momentum]}
artifacts: none
search:
  per: [optimizer]
  trials: 4
  retrain_seeds: 2
  sampler: {name: tpe, n_startup_trials: 2}
  space:
    lr: {low: 1e-3, high: 1, log: true}
    optimizer.momentum: {low: 0.5, high: 0.9}
"""


def write(folder: Path, content: str = FILE) -> Path:
    path = folder / "experiments" / "small.yaml"
    path.write_text(dedent(content), encoding="utf-8")
    return path


def run(path: Path, *arguments: str) -> int:
    """Runs the command in this process, one trial at a time."""
    return search.main([str(path), "--workers", "1", "--no-compare", *arguments])


def start(path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.search", str(path), "--no-compare", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=path.parent.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def plans(path: Path, data_root: Path) -> tuple[StudyPlan, ...]:
    experiment = load(path)
    assert experiment.search is not None
    return plan_studies(plan_bases(experiment, data_root), experiment.search, data_root)


def journal_of(folder: Path) -> Path:
    """Returns the journal of `small`; a path where nothing is before the search has made it."""
    studies = folder / "mlruns" / "studies"
    return next(studies.glob("small*.journal"), studies / "small.journal")


def stored(folder: Path) -> dict[str, optuna.Study]:
    """Returns the studies of the journal of `small`, by label."""
    storage = JournalStorage(JournalFileBackend(str(journal_of(folder))))
    names = [study.study_name for study in storage.get_all_studies()]
    return {
        name.partition("/")[2].partition(" [")[0]: optuna.load_study(
            study_name=name, storage=storage
        )
        for name in names
    }


def counted(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Returns the points that are part of the budget."""
    return [trial for trial in study.trials if "uncounted" not in trial.user_attrs]
