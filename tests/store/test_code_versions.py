"""Which stored runs are of other code of a user's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from harness.components.registry import find
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Choice
from harness.store import names
from harness.store.read.code_versions import count_runs_of_other_code
from harness.store.read.runs import ClientReader
from harness.store.read.tables import TableReader
from harness.store.store import Store
from tests.store.store_support import digits, make_plan


def codes(code: str, name: str = "net", field: str = "model") -> str:
    return json.dumps({field: {name: code}})


def add_run(store: Store, code: str | None, outcome: str = "done", **tags: str) -> None:
    given = {names.TAG_KIND: names.TRIAL, names.TAG_OUTCOME: outcome, **tags}
    store.client.create_run(
        store.experiment("test"), tags=given | ({} if code is None else {names.TAG_CODE: code})
    )


def planned(code: str, name: str) -> PlannedTrial:
    """A trial whose model is code of a user's."""
    component: Any = replace(find("models", "mlp"), name=name, code=code)
    (trial,) = make_plan([digits()]).trials
    model: Choice[Any] = Choice(component, component.options())
    return replace(trial, trial=replace(trial.trial, model=model))


def test_finished_runs_of_other_code_are_counted(store: Store) -> None:
    for code, outcome in (("aa", "done"), ("aa", "diverged"), ("bb", "done"), ("cc", "done")):
        add_run(store, codes(code, "net.py:Net"), outcome)
    add_run(store, codes("aa", "net.py:Net"), "failed")
    add_run(store, codes("aa", "net.py:Net"), **{names.TAG_SUPERSEDED: "another"})
    add_run(store, codes("aa", "net.py:Other"))
    add_run(store, codes("aa", "net.py:Net", "loss"))
    add_run(store, None)
    add_run(store, "[")
    experiment_id = store.experiment("test")
    # Moving the file changes nothing.
    trials = [planned("cc", "nets/net.py:Net")]
    assert count_runs_of_other_code(store, experiment_id, trials) == {"Net": 3}
    assert count_runs_of_other_code(store, experiment_id, make_plan([digits()]).trials) == {}
    assert store.database is not None
    by_table = TableReader(store.database).finished_by_code(experiment_id)
    assert by_table == ClientReader(store).finished_by_code(experiment_id)
    assert by_table[codes("aa", "net.py:Net")] == 2
