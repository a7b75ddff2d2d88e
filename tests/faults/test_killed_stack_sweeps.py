"""Sweeps of stacks interrupted by real signals: every value and weight is in the end what it would
have been."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.text import plural
from harness.execution.checkpoint_folder import Position
from harness.execution.queue import HELD_SECONDS
from harness.store import names
from tests.faults.sweep_support import (
    PATIENCE,
    cut,
    finish,
    reached,
    standing,
    statuses,
    sweep,
    wait_for,
)

pytestmark = pytest.mark.slow

FILE = """\
name: cut
trial:
  dataset: digits
  model: {name: mlp, hidden: [16], dropout: 0.3}
  scheduler: {name: plateau, patience: 0, threshold: 0.9}
  batch_size: 64
  epochs: 8
  log_every: 10
grid:
  optimizer: [sgd, adam, rmsprop]
  lr: [0.01, 1.0e+30]
  seed: [0, 1]
skip:
  - {when: {optimizer: [adam, rmsprop], lr: 1.0e+30}, because: two that diverge are enough}
artifacts: best
"""
"""Eight trials, two of which diverge in their first epoch."""
BATCH_NORM = FILE.replace(
    "{name: mlp, hidden: [16], dropout: 0.3}", "{name: bn_cnn, first: 2, second: 2}"
).replace("epochs: 8", "epochs: 4")
WAYS = {
    "inline": ("--executor", "inline", "--fuse", "8"),
    "processes": ("--executor", "process", "--workers", "2", "--fuse", "4"),
}
Stored = dict[str, tuple[dict[Any, float], dict[str, str]]]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], tuple[Stored, Any]]:
    """What an uninterrupted sweep stores, and its weights, by options and file."""
    known: dict[tuple[str, str], tuple[Stored, Any]] = {}

    def run(way: str, file: str) -> tuple[Stored, Any]:
        if (way, file) not in known:
            place = tmp_path_factory.mktemp("whole")
            (place / "mlruns").mkdir()
            (place / "cut.yaml").write_text(file)
            with contextlib.chdir(place):
                finish(*WAYS[way])
            known[way, file] = standing(place), weights(place)
        return known[way, file]

    return run


def weights(workspace: Path) -> dict[str, dict[str, list[Any]]]:
    """Those of the trials whose weights are stored, by trial id."""
    from harness.store.read.run_details import fetch_weights
    from harness.store.store import open_store

    store = open_store(workspace)
    found = {}
    for trial_id, (_, tags) in standing(workspace).items():
        if tags.get(names.TAG_ARTIFACTS):
            held = fetch_weights(store, tags["run_id"])
            assert held is not None
            found[trial_id] = {name: tensor.tolist() for name, tensor in held.items()}
    return found


def check(workspace: Path, expected: tuple[Stored, Any]) -> list[dict[str, str]]:
    """The finished sweep equals an uninterrupted one. Returns the tags of its runs."""
    after = standing(workspace)
    assert after.keys() == expected[0].keys()
    assert len(after) == 8
    for trial_id, (values, tags) in expected[0].items():
        assert after[trial_id][0] == values
        assert after[trial_id][1][names.TAG_OUTCOME] == tags[names.TAG_OUTCOME]
    assert len(expected[1]) == 3
    assert weights(workspace) == expected[1]
    assert "RUNNING" not in statuses(workspace)
    assert not list(workspace.glob("mlruns/checkpoints/*/stacks"))
    return [tags for _, tags in after.values()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stacks_interrupted_inside_an_epoch_equal_uninterrupted_ones(
    number: signal.Signals, way: str, workspace: Path, uninterrupted: Any
) -> None:
    expected = uninterrupted(way, FILE)
    (workspace / "cut.yaml").write_text(FILE)
    places = cut(workspace, number, *WAYS[way])
    assert places
    if number != signal.SIGKILL:
        assert "RUNNING" not in statuses(workspace)
        assert "KILLED" in statuses(workspace)
    told = finish(*WAYS[way])
    assert f"resuming {plural(len(places), 'interrupted stack')} of" in told
    tags = check(workspace, expected)
    resumed = {tag[names.TAG_RESUMED_AFTER] for tag in tags if names.TAG_RESUMED in tag}
    assert resumed == set(map(str, places))


def test_stacks_killed_repeatedly_end_with_the_same_results(
    workspace: Path, uninterrupted: Any
) -> None:
    expected = uninterrupted("inline", BATCH_NORM)
    (workspace / "cut.yaml").write_text(BATCH_NORM)
    for at in ((0, 2), (0, 15), (1, 9), (3, 1)):
        cut(workspace, signal.SIGKILL, *WAYS["inline"], at=at)
    finish(*WAYS["inline"])
    tags = check(workspace, expected)
    resumed = [tag.get(names.TAG_RESUMED) for tag in tags]
    assert resumed.count("4") >= 6, "all but those that had diverged"


@pytest.mark.parametrize("fuse", ["2", "auto"])
def test_another_stack_size_resumes_the_interrupted_stack(
    fuse: str, workspace: Path, uninterrupted: Any
) -> None:
    """Resuming exactly matters more than the stack's size and any measurement."""
    expected = uninterrupted("inline", FILE)
    (workspace / "cut.yaml").write_text(FILE)
    cut(workspace, signal.SIGKILL, *WAYS["inline"])
    told = finish("--executor", "inline", "--fuse", fuse)
    assert "stacking:" not in told
    check(workspace, expected)


def test_fuse_off_starts_again_and_says_so(workspace: Path, uninterrupted: Any) -> None:
    (workspace / "cut.yaml").write_text(FILE)
    cut(workspace, signal.SIGKILL, *WAYS["inline"])
    told = finish("--executor", "inline")
    assert "their checkpoints need --fuse" in told
    tags = [tags for _, tags in standing(workspace).values()]
    assert len(tags) == 8
    assert sum(names.TAG_STACK_SIZE in tag for tag in tags) <= 2, "but for those that had diverged"
    assert not list(workspace.glob("mlruns/checkpoints/*/stacks"))


def test_a_waiting_harness_resumes_the_stack_of_a_dead_one(
    workspace: Path, uninterrupted: Any
) -> None:
    """The second finds that the first holds its trials, and takes them over as a stack."""
    expected = uninterrupted("inline", FILE)
    (workspace / "cut.yaml").write_text(FILE)
    first = sweep("--checkpoint-every", "0", *WAYS["inline"])
    wait_for(lambda: any(place >= Position(2, 3) for place in reached(workspace)))
    first.send_signal(signal.SIGSTOP)  # It lives, and holds what it has.
    second = sweep(*WAYS["inline"])
    assert second.stdout is not None
    assert any("resuming " in line for line in second.stdout)
    time.sleep(2 * HELD_SECONDS)
    assert second.poll() is None
    first.kill()
    first.communicate()
    told, _ = second.communicate(timeout=4 * PATIENCE)
    assert second.returncode == 0, told
    finish(*WAYS["inline"])  # What the dead one left open is closed by the next command.
    tags = check(workspace, expected)
    assert [tag.get(names.TAG_RESUMED) for tag in tags].count("1") >= 6


def test_a_worker_killed_in_a_sweep_costs_its_stack_nothing(
    workspace: Path, uninterrupted: Any
) -> None:
    """The sweep itself goes on."""
    import psutil

    expected = uninterrupted("processes", FILE)
    (workspace / "cut.yaml").write_text(FILE)
    process = sweep("--checkpoint-every", "0", *WAYS["processes"])
    wait_for(lambda: any(place >= Position(1, 5) for place in reached(workspace)))
    children = psutil.Process(process.pid).children(recursive=True)
    workers = sorted(children, key=lambda one: one.cpu_times().user)[-2:]
    workers[0].kill()
    told, _ = process.communicate(timeout=4 * PATIENCE)
    assert process.returncode == 0, told
    tags = check(workspace, expected)
    assert {tag.get(names.TAG_RESUMED) for tag in tags} == {None, "1"}
