"""Whole commands over training loops of a user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import compare, predict, search, sweep
from harness.store.store import Store

CODE = """
import random
import harness

@harness.training_loop
def walk(trial, step: float = 1.0, fails: bool = False):
    place = 0.0
    for epoch in range(trial.epochs):
        if fails and epoch == 1:
            raise ValueError("lost")
        place += step * random.random()
        print("at", place)
        yield {"val/place": place, "test/place": place}
"""
FILE = """
name: walks
code: walk.py
trial: {training_loop: walk, epochs: 4, device: cpu}
grid: {training_loop.step: [0.5, 1.0], seed: [0, 1]}
metric: val/place
direction: max
"""
SEARCH = """
search:
  space: {training_loop.step: {low: 0.1, high: 2.0}}
  trials: 3
  retrain_seeds: 1
  pruner: {name: median, n_startup_trials: 1}
"""


@pytest.fixture
def file(store: Store, workspace: Path) -> Path:
    (workspace / "walk.py").write_text(CODE)
    path = workspace / "walks.yaml"
    path.write_text(FILE)
    return path


@pytest.mark.slow
def test_a_sweep_of_training_loops_is_compared(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([str(file), "--executor", "inline"]) == 0
    out = capfd.readouterr().out
    assert "4 done" in out
    assert "walk(step=1) leads with val/place" in out
    assert sweep.main([str(file), "--no-compare"]) == 0
    assert "nothing to run" in capfd.readouterr().out
    assert compare.main(["walks", "--format", "json", "--html", "r.html"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert "walk(step=1)" in json.dumps(report)
    assert predict.main(["walks"]) == 2
    assert "a training loop of the user's own keeps its model" in capfd.readouterr().err


@pytest.mark.slow
def test_a_loop_that_raises_fails_with_its_line_alone(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["training_loop.fails=true", "seed=[0]", "--executor", "inline", "--no-compare"]
    assert sweep.main([str(file), *arguments]) == 1
    out, err = capfd.readouterr()
    assert "walk.py:10: ValueError: lost" in out
    assert "Traceback" not in out + err


@pytest.mark.slow
def test_a_search_tunes_and_prunes_training_loops(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FILE + SEARCH)
    arguments = ["training_loop.step=1.0", "seed=0", "--executor", "inline"]
    assert search.main([str(file), *arguments]) == 0
    assert "best val/place" in capfd.readouterr().out
