"""The plan of a file's last sweep, as the store has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.core.errors import StoreError
from harness.experiment.plan import Plan
from harness.store import names
from harness.store.read.stored_plans import last_plan
from harness.store.store import Store
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, digits, make_plan


def planned(sha256: str, trials: int = 1, **experiment: Any) -> Plan:
    plan = make_plan([digits()] * trials)
    return replace(plan, experiment=replace(plan.experiment, sha256=sha256, **experiment))


def store_plan(store: Store, plan: Plan) -> str:
    with SweepWriter(store, plan, GOAL, trials=0) as writer:
        return writer.run_id


def test_the_newest_plan_of_the_same_file_is_taken(store: Store) -> None:
    store_plan(store, planned("aa", trials=1))
    same = store_plan(store, planned("aa", trials=2))
    store_plan(store, planned("aa", trials=3, overrides=("epochs=1",)))
    newest = store_plan(store, planned("bb", trials=4, overrides=("lr=1", "name=test")))
    stored = last_plan(store, "test", "aa")
    assert stored is not None
    assert (stored.run_id, len(stored.summary.data)) == (same, 2)
    changed = last_plan(store, "test", "cc")
    assert changed is not None
    assert (changed.run_id, changed.summary.overrides) == (newest, ("lr=1", "name=test"))


def test_a_store_without_plans_has_none(store: Store) -> None:
    assert last_plan(store, "test", "aa") is None
    experiment_id = store.experiment("test")
    store.client.create_run(experiment_id, tags={names.TAG_KIND: names.SWEEP})
    assert last_plan(store, "test", "aa") is None


@pytest.mark.parametrize("text", ["", "[" * 9999, '{"trials": {"../../up": 1}}', None])
def test_a_damaged_plan_is_told_in_words(store: Store, text: str | None) -> None:
    run_id = store_plan(store, planned("aa"))
    if text is None:
        run = store.client.create_run(
            store.experiment("test"), tags={names.TAG_KIND: names.SWEEP, names.TAG_PLAN: "aa"}
        )
        run_id = run.info.run_id
    else:
        store.attach(run_id, names.PLAN_FILE, text)
    with pytest.raises(StoreError, match=f"plan.json of run {run_id} is no plan"):
        last_plan(store, "test", "aa")


def test_passwords_in_overrides_stay_out_of_the_store(store: Store) -> None:
    store_plan(store, planned("aa", overrides=("search.storage=postgresql://bob:hunter2@h/x",)))
    stored = last_plan(store, "test", "aa")
    assert stored is not None
    assert "hunter2" not in stored.summary.to_json()
