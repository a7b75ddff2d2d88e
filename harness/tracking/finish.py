"""Stores the figures, weights and models of the trials that a sweep has kept."""

from __future__ import annotations

from harness import naming
from harness.experiment.spec import Plan
from harness.history import Goal
from harness.tracking.artifacts import store_artifacts
from harness.tracking.keep import Keeper
from harness.tracking.persist import persist
from harness.tracking.spool import Spool
from harness.tracking.store import Store


def finish_artifacts(store: Store, plan: Plan, goal: Goal) -> int:
    """Store what a sweep that was cut short left in the spool, with no trial run again. Returns
    how many runs got theirs; at once 0 where the spool is empty."""
    experiment_id = store.experiment(plan.experiment.name)
    spool = Spool(store.spool(experiment_id))
    if not any(spool.held()):
        return 0
    keeper = Keeper(spool, goal, plan.trials, store.finished(experiment_id))
    return store_kept(store, keeper)


def store_kept(store: Store, keeper: Keeper) -> int:
    """Store the artifacts of each group's best trial, then empty the spool."""
    stored = 0
    for winner in keeper.winners():
        kept = keeper.evidence(winner)
        if kept is not None:
            state = store_artifacts(store, winner.planned, kept)
            persist(
                "write to a run",
                lambda run_id=winner.run_id, state=state: store.client.set_tag(  # type: ignore[misc]
                    run_id, naming.TAG_ARTIFACTS, state
                ),
            )
            stored += 1
    keeper.clear()
    return stored
