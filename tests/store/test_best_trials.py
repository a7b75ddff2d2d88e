from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from harness.core.records import Ended, Outcome, Record, TestOutputs
from harness.experiment.plan import PlannedTrial
from harness.store.artifacts.best_trials import (
    BestTrials,
    PendingOutputs,
    TrialOutputs,
    selection_group,
)
from harness.store.store import Store
from harness.store.write.sweep_writer import SweepWriter, finish_artifacts
from tests.store.store_support import (
    GOAL,
    children,
    digits,
    done,
    made_outputs,
    make_plan,
    measured,
    write,
)


@pytest.fixture(autouse=True)
def quick_artifacts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the artifacts, which test_run_artifacts tests: these tests count who gets them."""

    def mark(store: Store, planned: PlannedTrial, kept: TrialOutputs) -> str:
        store.client.log_text(kept.run_id, planned.name, "weights/marker.txt")
        return "complete"

    monkeypatch.setattr("harness.store.write.sweep_writer.store_artifacts", mark)


def small() -> TestOutputs:
    targets = torch.tensor([0, 1])
    return TestOutputs(
        {"weight": torch.arange(3.0)}, torch.eye(2), targets, torch.zeros(2, 1, 2, 2).byte()
    )


def kept(number: int, accuracy: float = 0.5, run_id: str = "") -> TrialOutputs:
    history = (measured(0, 0.1), measured(1, accuracy))
    return TrialOutputs(f"{number:016x}", run_id or f"run{number}", history, small())


def trials() -> tuple[PlannedTrial, ...]:
    """Two of SGD, two of Adam."""
    plan = make_plan([digits(), digits(seed=1), digits(optimizer="adam"), digits(optimizer="adam")])
    return plan.trials


def test_pending_outputs_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    spool = PendingOutputs(tmp_path / "spool" / "1")
    spool.save(kept(1, 0.75))
    back = spool.load(f"{1:016x}", "run1")
    assert back is not None
    assert back.history == kept(1, 0.75).history
    assert back.score(GOAL) == 0.75
    assert torch.equal(back.test_outputs.state_dict["weight"], torch.arange(3.0))
    assert torch.equal(back.test_outputs.outputs, small().outputs)
    assert list(spool.ids()) == [(f"{1:016x}", "run1")]


def test_the_folder_goes_with_its_last_file(tmp_path: Path) -> None:
    spool = PendingOutputs(tmp_path / "spool" / "1")
    assert list(spool.ids()) == []
    spool.save(kept(1))
    spool.save(kept(2))
    spool.remove(f"{1:016x}", "run1")
    assert spool.folder.is_dir()
    spool.remove(f"{2:016x}", "run2")
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes | None
) -> None:
    spool = PendingOutputs(tmp_path)
    spool.save(kept(1))
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-200] ^= 1  # one flipped bit, which torch would not notice
    path.write_bytes(bytes(content) if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert spool.load(f"{1:016x}", "run1") is None
    assert "damaged" in caplog.text


def test_a_failed_write_keeps_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = PendingOutputs(tmp_path)
    spool.save(kept(1, 0.5))

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        spool.save(kept(1, 0.6))
    back = spool.load(f"{1:016x}", "run1")
    assert back is not None
    assert back.score(GOAL) == 0.5
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("trial_id", "run_id"), [("../../x", "run"), ("00", "../run"), ("00", "a/b"), ("", "run")]
)
def test_ids_cannot_point_outside_the_folder(tmp_path: Path, trial_id: str, run_id: str) -> None:
    with pytest.raises(ValueError, match="not a trial's"):
        PendingOutputs(tmp_path).remove(trial_id, run_id)


def test_only_the_best_of_each_group_stays_pending(tmp_path: Path) -> None:
    spool = PendingOutputs(tmp_path)
    best_trials = BestTrials(spool, GOAL, trials(), {})
    for number, accuracy in ((0, 0.5), (1, 0.6), (2, 0.9), (3, 0.9)):
        for beaten in best_trials.offer(trials()[number], kept(number, accuracy)):
            best_trials.discard(beaten)
    assert [trial_id for trial_id, _ in spool.ids()] == [f"{1:016x}", f"{2:016x}"]
    assert {winner.run_id for winner in best_trials.winners()} == {"run1", "run2"}


def test_models_and_data_sets_with_other_options_are_other_groups(tmp_path: Path) -> None:
    variants = [
        digits(model={"name": "mlp", "hidden": [4]}),
        digits(model={"name": "mlp", "hidden": [8]}),
        digits(dataset={"name": "digits", "limit": 500}),
        digits(optimizer={"name": "sgd", "weight_decay": 0.1}),
    ]
    planned = make_plan(variants).trials
    best_trials = BestTrials(PendingOutputs(tmp_path), GOAL, planned, {})
    for number, accuracy in enumerate((0.5, 0.6, 0.7, 0.8)):
        best_trials.offer(planned[number], kept(number, accuracy))
    # The last differs from a trial of the default model in its optimizer's options alone.
    assert {winner.run_id for winner in best_trials.winners()} == {"run0", "run1", "run2", "run3"}
    assert len({selection_group(one) for one in make_plan([variants[3], digits()]).trials}) == 1


def test_a_trial_without_the_metric_loses_to_any_with_it(tmp_path: Path) -> None:
    best_trials = BestTrials(PendingOutputs(tmp_path), GOAL, trials(), {})
    best_trials.offer(trials()[0], TrialOutputs("0" * 16, "run0", (), small()))
    best_trials.offer(trials()[1], kept(1, 0.01))
    assert [winner.run_id for winner in best_trials.winners()] == ["run1"]


def with_evidence(plan_trial: PlannedTrial, accuracy: float) -> list[Record]:
    return done(accuracy, made_outputs(plan_trial.trial))


def artifacts(store: Store) -> dict[str, str | None]:
    return {name: run.data.tags.get("harness.artifacts") for name, run in children(store).items()}


def test_the_best_of_each_optimizer_and_model_gets_artifacts(store: Store, workspace: Path) -> None:
    plan = make_plan([planned.trial for planned in trials()], artifacts="best")
    scores = (0.5, 0.6, 0.9, 0.3)
    records = {n: with_evidence(plan.trials[n], score) for n, score in enumerate(scores)}
    write(store, plan, records)
    assert artifacts(store) == {
        "trial 0": None,
        "trial 1": "complete",
        "trial 2": "complete",
        "trial 3": None,
    }
    assert not (workspace / "mlruns" / "spool").exists()
    found = store.latest_runs(store.experiment("test"))
    assert [found[f"{n:016x}"].has_artifacts for n in range(4)] == [False, True, True, False]


def has_weights(store: Store, experiment: str) -> bool:
    first = store.latest_runs(store.experiment(experiment))["0" * 16]
    return bool(store.client.list_artifacts(first.run_id, "weights"))


def interrupted(store: Store, scores: dict[int, float]) -> None:
    """A sweep that ends some trials and is then stopped."""
    plan = make_plan([planned.trial for planned in trials()], artifacts="best")

    def sweep() -> None:
        with SweepWriter(store, plan, GOAL) as writer:
            for number, score in scores.items():
                for record in with_evidence(plan.trials[number], score):
                    writer.record(plan.trials[number], record)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep()


def test_pending_outputs_of_an_interrupted_sweep_compete_in_the_next(
    store: Store, workspace: Path
) -> None:
    plan = make_plan([planned.trial for planned in trials()], artifacts="best")
    interrupted(store, {0: 0.9, 2: 0.4})
    assert len(list((workspace / "mlruns" / "spool").glob("*/*"))) == 2
    assert set(artifacts(store).values()) == {None}
    write(store, plan, {n: with_evidence(plan.trials[n], 0.6) for n in (1, 3)})
    assert artifacts(store) == {
        "trial 0": "complete",
        "trial 1": None,
        "trial 2": None,
        "trial 3": "complete",
    }
    assert not (workspace / "mlruns" / "spool").exists()


def test_artifacts_are_stored_without_training_again(store: Store, workspace: Path) -> None:
    plan = make_plan([planned.trial for planned in trials()], artifacts="best")
    assert finish_artifacts(store, plan, GOAL) == 0
    interrupted(store, {0: 0.9, 1: 0.5})
    assert finish_artifacts(store, plan, GOAL) == 1
    assert artifacts(store) == {"trial 0": "complete", "trial 1": None}
    assert finish_artifacts(store, plan, GOAL) == 0


def test_two_sweeps_at_once_remove_nothing_that_the_other_needs(
    store: Store, workspace: Path
) -> None:
    """The first to end stores the best trials so far, and leaves what is undecided."""
    plan = make_plan([planned.trial for planned in trials()], artifacts="best")
    spool = PendingOutputs(store.pending_outputs(store.experiment("test")))
    with SweepWriter(store, plan, GOAL) as second:
        *records, ended = with_evidence(plan.trials[1], 0.9)
        for record in records:
            run = second.record(plan.trials[1], record)
        second.commit()
        with SweepWriter(store, plan, GOAL) as first:
            # The second has its evidence in the spool, and its run not yet in the store.
            assert isinstance(ended, Ended)
            assert ended.test_outputs is not None
            spool.save(
                TrialOutputs(f"{1:016x}", run.run_id, (measured(1, 0.9),), ended.test_outputs)
            )
            for number, score in ((0, 0.5), (2, 0.6)):
                for record in with_evidence(plan.trials[number], score):
                    first.record(plan.trials[number], record)
        assert artifacts(store) == {"trial 0": "complete", "trial 1": None, "trial 2": "complete"}
        assert list(spool.ids()) == [(f"{1:016x}", run.run_id)]
        assert finish_artifacts(store, plan, GOAL) == 0, "the second is at work"
        second.record(plan.trials[1], ended)
    assert artifacts(store)["trial 1"] == "complete"
    assert not (workspace / "mlruns" / "spool").exists()


def test_the_last_of_two_sweeps_stores_what_the_other_trained(store: Store) -> None:
    """Even if the other was stopped and stores nothing itself."""
    plan = make_plan([planned.trial for planned in trials()], artifacts="best")
    with SweepWriter(store, plan, GOAL) as last:
        interrupted(store, {0: 0.9, 2: 0.4})
        for record in with_evidence(plan.trials[1], 0.7):
            last.record(plan.trials[1], record)
    assert artifacts(store) == {"trial 0": "complete", "trial 1": None, "trial 2": "complete"}


def test_a_later_sweep_stores_only_trials_that_beat_stored_ones(store: Store) -> None:
    plan = make_plan([planned.trial for planned in trials()], artifacts="best")
    write(store, plan, {0: with_evidence(plan.trials[0], 0.8)})
    write(store, plan, {1: with_evidence(plan.trials[1], 0.7)})
    assert artifacts(store) == {"trial 0": "complete", "trial 1": None}


def test_artifacts_all_and_none(store: Store) -> None:
    both = [digits(), digits(seed=1)]
    plan = make_plan(both, artifacts="all")
    diverged: list[Record] = [measured(0, 0.1), Ended(Outcome.DIVERGED, {}, "not finite")]
    write(store, plan, {0: with_evidence(plan.trials[0], 0.5), 1: diverged})
    assert artifacts(store) == {"trial 0": "complete", "trial 1": None}
    plan = make_plan(both, artifacts="none", name="none")
    write(store, plan, {0: with_evidence(plan.trials[0], 0.5)})
    assert not has_weights(store, "none")
    assert has_weights(store, "test")


def test_a_full_disk_loses_figures_but_no_results(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    plan = make_plan([digits()], artifacts="best")
    write(store, plan, {0: with_evidence(plan.trials[0], 0.8)})
    assert store.latest_runs(store.experiment("test"))["0" * 16].outcome is Outcome.DONE
    assert artifacts(store) == {"trial 0": None}
    assert "No space left" in caplog.text
