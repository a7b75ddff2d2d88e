"""How many workers: chosen from what was measured, and measured for real."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from harness.execution import worker_count as measure
from harness.execution.worker_count import Kind, counts, fastest, kinds, workers
from tests.support import make_trial


@pytest.mark.parametrize(
    ("cores", "trials", "expected"),
    [(1, 9, [1]), (2, 9, [1, 2]), (6, 9, [1, 2, 4, 6]), (16, 3, [1, 2, 3]), (8, 1, [1])],
)
def test_counts_from_one_to_one_a_core(cores: int, trials: int, expected: list[int]) -> None:
    assert counts(cores, trials) == expected


def test_the_fastest_for_the_whole_plan_counts_every_kind() -> None:
    slow = Kind("slow", make_trial(), epochs=10)
    quick = Kind("quick", make_trial(), epochs=10)
    paces = [(slow, {1: 1.0, 2: 1.5}), (quick, {1: 100.0, 2: 50.0})]
    assert fastest(paces, [1, 2]) == 2, "10 + 0.1 s against 6.7 + 0.2 s"
    assert fastest(paces[1:], [1, 2]) == 1
    assert fastest([(slow, {1: 2.0, 2: 2.0})], [1, 2]) == 2, "of equals the default"
    assert fastest([(slow, {1: 2.0, 2: 1.92})], [1, 2]) == 2, "nearly equal"
    assert fastest([(slow, {1: 2.0, 2: 1.88})], [1, 2]) == 1
    assert fastest([(slow, {1: 1.0, 2: 2.0, 4: 1.0})], [1, 2, 4]) == 2


def test_kinds_are_told_apart_by_what_an_epoch_costs() -> None:
    trials = [make_trial(seed=seed, lr=lr) for seed in range(3) for lr in (0.1, 0.2)]
    trials += [make_trial(batch_size=8), make_trial(model={"name": "mlp", "hidden": [8]})]
    found = kinds(trials)
    assert [kind.epochs for kind in found] == [12, 2, 2]


def test_a_measurement_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.05)
    memory = tmp_path / "mlruns" / "workers.json"
    trials = [make_trial(dataset="iris", seed=seed) for seed in range(4)]
    count, told = workers(trials, tmp_path, 2, memory)
    assert count in (1, 2)
    assert "measured now" in told
    assert not multiprocessing.active_children()
    (entry,) = json.loads(memory.read_text()).values()
    assert entry.keys() == {"1", "2", "at"}
    assert all(pace > 0 for pace in entry.values())

    monkeypatch.setattr(measure._Bench, "pace", None)
    again, told = workers(trials, tmp_path, 2, memory)
    assert again == count
    assert "measured before" in told


def test_what_is_old_or_of_another_machine_or_torch_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each number of workers in turn with the others, and the median counts."""
    asked: list[int] = []
    paces = {1: [5.0, 1.0, 1.1], 2: [2.0, 2.1, 0.1]}

    def pace(bench: object, trial: object, root: Path, count: int, threads: int) -> float:
        asked.append(count)
        assert threads == 2 // count
        return paces[count][asked.count(count) % 3]

    monkeypatch.setattr(measure._Bench, "pace", pace)
    memory = tmp_path / "workers.json"
    trials = [make_trial(dataset="iris", seed=seed) for seed in range(4)]
    assert workers(trials, tmp_path, 2, memory)[0] == 2
    assert asked == [1, 2] * measure.ROUNDS
    (key,) = json.loads(memory.read_text())
    (entry,) = json.loads(memory.read_text()).values()
    assert (entry["1"], entry["2"]) == (1.1, 2.0)
    month = measure.KEPT_SECONDS + 1
    for change in (
        {key: entry | {"at": entry["at"] - month}},
        {key: entry | {"at": entry["at"] + month}},
        {key: {name: entry[name] for name in ("1", "at")}},
        {key.replace("torch ", "torch 0."): entry},
        {key.replace("2 cores", "3 cores"): entry},
    ):
        memory.write_text(json.dumps(change))
        asked.clear()
        assert "measured now" in workers(trials, tmp_path, 2, memory)[1]
        assert asked == [1, 2] * measure.ROUNDS


def test_a_trial_that_cannot_train_is_left_to_fail_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.05)
    broken = [make_trial(dataset="iris", model={"name": "mlp", "hidden": [2**50]})] * 2
    count, _ = workers(broken, tmp_path, 2, tmp_path / "workers.json")
    assert count == 2
    assert not multiprocessing.active_children()
