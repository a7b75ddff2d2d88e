"""Stored runs as a sweep writes them, for tests of reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from harness.core.text import format_value
from harness.experiment.trial import Fingerprint, make_config_id, make_trial_id
from harness.store import names
from harness.store.read.results import Results, results_table
from harness.store.read.runs import StoredRun
from harness.store.store import Store
from tests.support import make_trial

METRIC = "val/accuracy"


def trial_run(
    score: float | None = None,
    *,
    outcome: str | None = "done",
    status: str = "FINISHED",
    test: float | None = None,
    started: int = 0,
    run_id: str | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    data: str = "",
    weights: str = "",
    **fields: Any,
) -> StoredRun:
    """A trial's run. score, test: the accuracy on val and test at the best epoch; the last epoch's
    is 0.01 lower. data, weights: the checksums of what it was trained on. fields: of the trial."""
    trial = make_trial(**fields)
    identity = trial.identity()
    fingerprint = Fingerprint(data, weights)
    trial_id = make_trial_id(identity, fingerprint)
    stored_tags = {names.TAG_KIND: names.TRIAL, names.TAG_TRIAL: json.dumps(trial.resolved())}
    stored_tags |= {names.TAG_METRIC: METRIC, names.TAG_DIRECTION: "max", "mlflow.parentRunId": "p"}
    if weights:
        stored_tags[names.TAG_WEIGHTS] = names.short_checksum(weights)
    if outcome is not None:
        stored_tags[names.TAG_OUTCOME] = outcome
    values = {METRIC: score, "test/accuracy": test}
    scalars = {f"best/{n}": v for n, v in values.items() if v is not None}
    scalars |= {f"final/{n}": v - 0.01 for n, v in values.items() if v is not None}
    flat = {key: value for key, value in trial.flat().items() if "." not in key}
    label = f"{trial.model.name} {trial.optimizer.name} lr={format_value(trial.lr)}"
    return StoredRun(
        run_id=run_id or f"{trial_id}{started:016x}",
        name=name or f"{label} seed={trial.seed}",
        status=status,
        started=started,
        data=names.short_checksum(data),
        params=flat
        | {names.PARAM_TRIAL: trial_id, names.PARAM_CONFIG: make_config_id(identity, fingerprint)},
        metrics=scalars | dict(metrics or {}),
        tags=stored_tags | dict(tags or {}),
    )


def without(run: StoredRun, *fields: str) -> StoredRun:
    """The run as a version of the harness left it that did not have these fields or options."""
    resolved = json.loads(run.tags[names.TAG_TRIAL])
    for field in fields:
        root, _, option = field.partition(".")
        del (resolved[root] if option else resolved)[option or root]
        run.params.pop(field, None)
    run.tags[names.TAG_TRIAL] = json.dumps(resolved)
    return run


def sweep_run(
    expect: Iterable[Mapping[str, Any]] = (), metric: str = METRIC, direction: str = "max"
) -> StoredRun:
    """A sweep's own run."""
    tags = {
        names.TAG_KIND: names.SWEEP,
        names.TAG_METRIC: metric,
        names.TAG_DIRECTION: direction,
        names.TAG_EXPECT: json.dumps(list(expect)),
    }
    return StoredRun(run_id="p", name="sweep", status="FINISHED", started=0, tags=tags)


def results(*runs: StoredRun, expect: Iterable[Mapping[str, Any]] = ()) -> Results:
    """The table of an experiment named "demo"."""
    table = results_table("demo", [sweep_run(expect), *runs])
    assert table is not None
    return table


def seeds(scores: Iterable[float | None], **fields: Any) -> list[StoredRun]:
    """One run a seed; None for a score is a trial that diverged. Test is 0.02 below val."""
    return [
        trial_run(
            score,
            test=None if score is None else score - 0.02,
            outcome="done" if score is not None else "diverged",
            seed=seed,
            **fields,
        )
        for seed, score in enumerate(scores)
    ]


def small_grid() -> list[StoredRun]:
    """Two models, two optimizers, three learning rates, three seeds; adam on mlp leads."""
    runs = []
    for m, hidden in enumerate(([16], [32, 32])):
        model = {"name": "mlp", "hidden": hidden}
        for o, optimizer in enumerate(("adam", "sgd")):
            for place, lr in enumerate((0.001, 0.01, 0.1)):
                base = 0.98 - 0.01 * o - 0.005 * m - 0.02 * abs(place - (1 + o))
                scores = [base - 0.001, base, base + 0.002]
                runs += seeds(scores, model=model, optimizer=optimizer, lr=lr)
    return runs


def add(store: Store, experiment: str, runs: Iterable[StoredRun], begin: int) -> None:
    """Write runs into a store, one after the other. begin: start time of the first, in ms."""
    experiment_id = store.experiment(experiment, create=True)
    for i, run in enumerate(runs):
        created = store.client.create_run(experiment_id, start_time=begin + i, run_name=run.name)
        store.client.log_batch(
            created.info.run_id,
            [Metric(k, v, 0, 0) for k, v in run.metrics.items()],
            [Param(k, v) for k, v in run.params.items()],
            [RunTag(k, v) for k, v in run.tags.items()],
        )
        store.client.set_terminated(created.info.run_id, run.status)
