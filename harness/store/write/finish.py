"""The end of a sweep: stores the figures, weights and models of the trials that it has kept."""

from __future__ import annotations

from harness.core.metrics import Goal
from harness.experiment.plan import Plan
from harness.store import names
from harness.store.artifacts.best_trials import BestTrials, Candidate
from harness.store.artifacts.trial_files import store_artifacts
from harness.store.artifacts.trial_outputs import PendingOutputs
from harness.store.coordination.processes import ActiveWriter, in_turn
from harness.store.coordination.stale_runs import clean_up_after_dead_processes
from harness.store.retry import with_retries
from harness.store.store import Store


def finish(store: Store, plan: Plan) -> None:
    """Do what is left of a sweep that was killed at its very end, with no trial run again."""
    clean_up_after_dead_processes(store, store.experiment(plan.experiment.name))
    finish_artifacts(store, plan, plan.experiment.goal)


def finish_artifacts(store: Store, plan: Plan, goal: Goal) -> int:
    """Store what a sweep that was cut short left in the spool. Returns how many runs got theirs; at
    once 0 where the spool is empty, or while another harness writes the experiment, which stores
    them when it ends."""
    experiment_id = store.experiment(plan.experiment.name)
    if not any(PendingOutputs(store.pending_outputs(experiment_id)).held()):
        return 0
    presence = ActiveWriter(store.writers_file(experiment_id))
    try:
        if presence.is_alone():
            return store_kept(store, experiment_id, plan, goal, alone=True)
        return 0
    finally:
        presence.leave()


def store_kept(store: Store, experiment_id: str, plan: Plan, goal: Goal, alone: bool) -> int:
    """Store the artifacts of each group's best trial as the store knows it now, whichever harness
    trained it, and clear the spool of what was decided. alone: whether no other harness is at work,
    whose evidence may stand for runs that are not written yet."""
    spool = PendingOutputs(store.pending_outputs(experiment_id))
    if not any(spool.held()):
        return 0
    with in_turn(store.writers_file(experiment_id).with_suffix(".turn")):
        keeper = BestTrials(spool, goal, plan.trials, store.latest_runs(experiment_id))
        stored = sum(_store(store, keeper, winner) for winner in keeper.winners())
        keeper.clear(alone)
    return stored


def _store(store: Store, keeper: BestTrials, winner: Candidate) -> bool:
    kept = keeper.test_outputs(winner)
    if kept is None:
        return False
    state = store_artifacts(store, winner.planned, kept)
    with_retries(
        "write to a run",
        lambda: store.client.set_tag(winner.run_id, names.TAG_ARTIFACTS, state),
    )
    return True
