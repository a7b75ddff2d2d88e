"""The same trial on two devices, from runs that a sweep's writer stored.

There is no second device: what a GPU would record is written as its worker would send it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.analysis.trials import join
from harness.core.records import Ended, Measured, Outcome, Record, Started
from harness.report.section import build_report, choose_sections
from harness.report.terminal import terminal
from harness.store.names import TAG_DEVICE, TAG_DEVICE_NAME
from harness.store.read.results import Results, read_results
from harness.store.store import Store, open_store
from harness.store.write.sweep_writer import SweepWriter
from tests.report_support import section_record
from tests.store.store_support import GOAL, make_plan
from tests.stored import results, trial_run
from tests.support import make_trial

CPU, GPU = ("cpu", "a processor"), ("cuda:0", "NVIDIA H200")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "mlruns").mkdir()
    return open_store(tmp_path)


def yielded(
    device: tuple[str, str], seconds: float, accuracy: float, exclusive: bool = True
) -> list[Record]:
    values = {"time/train_s": seconds, "time/eval_s": 0.1, "examples_per_s": 1000 / seconds}
    values |= {"val/accuracy": accuracy, "memory/peak_mib": 10 * seconds}
    name, make = device
    return [
        Started({"device": name, "device_name": make, "exclusive": exclusive}),
        Measured(1, values, examples=1000),
        Ended(Outcome.DONE, {}),
    ]


def swept(store: Store, runs: Sequence[tuple[str, int, list[Record]]], name: str) -> Results:
    """A sweep of trials by (the device requested, seed, records)."""
    trials = [make_trial(device=device, seed=seed, metrics=[]) for device, seed, _ in runs]
    plan = make_plan(trials, name=name)
    with SweepWriter(store, plan, GOAL) as writer:
        for planned, (_, _, records) in zip(plan.trials, runs, strict=True):
            for record in records:
                writer.record(planned, record)
    return read_results(store, name)


def test_the_same_trial_across_devices(store: Store) -> None:
    """On the GPU half and an eighth of the seconds: a quarter, by the geometric mean. Seed 2 ran on
    the CPU alone, and counts for nothing here."""
    found = swept(
        store,
        [
            ("cpu", 0, yielded(CPU, 4.0, 0.9)),
            ("cpu", 1, yielded(CPU, 8.0, 0.8)),
            ("cpu", 2, yielded(CPU, 100.0, 0.7)),
            ("cuda", 0, yielded(GPU, 2.0, 0.9)),
            ("cuda", 1, yielded(GPU, 1.0, 0.75)),
        ],
        "two",
    )

    first, second = section_record(found, "cost").devices

    assert [(one.device, one.trials) for one in (first, second)] == [("cpu", 2), ("cuda", 2)]
    assert (first.slower, second.slower) == (1.0, pytest.approx(0.25))
    assert (first.apart, second.apart) == (0.0, pytest.approx(0.05))
    assert (first.cost.train_s, second.cost.train_s) == (6.0, 1.5)
    assert second.cost.memory_mib == 20.0
    output = terminal([build_report(found, of=choose_sections(["cost"]))])
    assert "The same trial across devices" in output
    assert "0.25" in output


def test_shared_devices_have_no_ratio_of_seconds(store: Store) -> None:
    found = swept(
        store,
        [
            ("cpu", 0, yielded(CPU, 4.0, 0.9, exclusive=False)),
            ("cuda", 0, yielded(GPU, 2.0, 0.9)),
        ],
        "shared",
    )
    assert [one.slower for one in section_record(found, "cost").devices] == [None, None]


def test_two_machines_of_which_each_says_cpu_are_two_devices(store: Store) -> None:
    """Two experiments, each with the same trial on its own machine."""
    here = swept(store, [("cpu", 0, yielded(CPU, 4.0, 0.9))], "here")
    there = swept(store, [("cpu", 0, yielded(("cpu", "another"), 2.0, 0.9))], "there")

    devices = section_record(join([here, there], ["here", "there"]), "cost").devices

    assert [one.device for one in devices] == ["cpu (a processor)", "cpu (another)"]
    assert devices[1].slower == pytest.approx(0.5)


@pytest.mark.slow
def test_joined_stores_keep_their_curves(tmp_path: Path) -> None:
    """Each run's history is read from its own store."""
    found = []
    for name, accuracy in (("here", 0.9), ("there", 0.7)):
        (tmp_path / name / "mlruns").mkdir(parents=True)
        own = open_store(tmp_path / name)
        found.append(swept(own, [("cpu", 0, yielded(CPU, 1.0, accuracy))], "one"))

    joined = join(found, ["here", "there"])

    curves = section_record(joined, "curves", by=("experiment",)).curves
    assert {c.contender: [(e.epoch, e.n, e.mean) for e in c.epochs] for c in curves} == {
        "here": [(1, 1, 0.9)],
        "there": [(1, 1, 0.7)],
    }
    assert joined.details is not None
    assert "python" in joined.details.provenance()  # what both agree on


def test_devices_of_one_make_are_one(store: Store) -> None:
    second = ("cuda:1", GPU[1])
    runs = [("cuda", 0, yielded(GPU, 1.0, 0.9)), ("cuda", 1, yielded(second, 1.0, 0.9))]
    found = swept(store, runs, "gpus")
    assert section_record(found, "cost").devices == ()
    assert section_record(found, "overview").mixed == 0


def test_other_trials_on_another_device_are_not_the_same(store: Store) -> None:
    runs = [("cpu", 0, yielded(CPU, 1.0, 0.9)), ("cuda", 1, yielded(GPU, 1.0, 0.9))]
    assert section_record(swept(store, runs, "apart"), "cost").devices == ()


def test_runs_that_name_no_device_are_of_none() -> None:
    found = results(trial_run(0.9), trial_run(0.8, seed=1))
    assert section_record(found, "overview").mixed == 0
    unrecorded = results(trial_run(0.9, metrics={"time/train_s": 1.0}))
    assert section_record(unrecorded, "cost").devices == ()


def test_a_config_whose_seeds_ran_on_several_devices_is_reported() -> None:
    """`device: auto`, on a machine with a GPU and on one without."""
    runs = [
        trial_run(0.9, device="auto", seed=seed, tags={TAG_DEVICE: device, TAG_DEVICE_NAME: make})
        for seed, (device, make) in enumerate((CPU, GPU))
    ]
    found = results(*runs)
    assert section_record(found, "overview").mixed == 1
    output = " ".join(terminal([build_report(found)]).split())
    assert "1 config with trials on different devices (`device: auto`" in output
