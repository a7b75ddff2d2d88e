"""Which run is meant: by its id, its trial's id, the beginning of either, or its experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING, Any

from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.metrics import BEST, BEST_EPOCH, FINAL
from harness.core.records import Outcome
from harness.store.names import PARAM_TRIAL, TAG_ARTIFACTS, TAG_METRIC, TAG_SUPERSEDED, TAG_TRIAL

if TYPE_CHECKING:
    from harness.store.read.results import Results
    from harness.store.store import Store

MOST_NAMED = 8
"""Runs that an error lists."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A trial's run. resolved: the trial as JSON holds it. final: "test/accuracy" and the like of
    its last epoch, whose weights are stored. ranked: at which epoch `compare` ranks it, and by
    what ("epoch 3 (val/accuracy 0.9312)"), where that is another one; else empty."""

    experiment: str
    run_id: str
    name: str
    trial_id: str
    resolved: Mapping[str, Any]
    final: Mapping[str, float]
    ranked: str = ""

    def without_weights(self, store: Store) -> InputError:
        """The error that this run has no weights; names runs of the experiment that have."""
        from harness.store.read.results import read_results

        problem = f"run {self.run_id} ({self.name}) has no weights stored"
        return InputError(
            Problem(problem, hint=_with_weights(read_results(store, self.experiment)))
        )


def choose(store: Store, reference: str) -> Chosen:
    """The run that `reference` means.

    Raises InputError where it means none or several, or an experiment without any weights.
    """
    from harness.store.read.results import experiment_names, find_trials

    experiments = experiment_names(store)
    if reference in experiments:
        return _best(store, reference)
    found = find_trials(store, reference)
    current = [one for one in found if TAG_SUPERSEDED not in one[1].data.tags]
    whole = [one for one in found if one[1].info.run_id == reference] or current or found
    if len({run.data.params.get(PARAM_TRIAL) for _, run in whole}) > 1:
        listed = [f"{run.info.run_id}  {run.info.run_name}" for _, run in whole]
        problem = f"{reference!r} is the beginning of {len(whole)} runs' ids; give more of it"
        raise InputError(Problem(problem, hint=_lines(listed)))
    if not whole:
        hint = did_you_mean(reference, experiments) if experiments else "no experiment has run yet"
        raise InputError(Problem(f"no run or experiment is called {reference!r}", hint=hint))
    # Of several runs of one trial the newest that has weights, or simply the newest.
    stored = [one for one in whole if TAG_ARTIFACTS in one[1].data.tags]
    experiment, run = (stored or whole)[-1]
    return _chosen(
        experiment,
        run.info.run_id,
        run.info.run_name or run.info.run_id,
        run.data.params.get(PARAM_TRIAL, ""),
        run.data.tags.get(TAG_TRIAL),
        run.data.metrics,
        run.data.tags.get(TAG_METRIC, ""),
    )


def _best(store: Store, experiment: str) -> Chosen:
    """The experiment's best run by its selection metric, of those that have weights."""
    from harness.store.read.results import read_results

    results = read_results(store, experiment)
    stored = _stored(results)
    if stored.empty:
        raise InputError(
            Problem(f"no run of {experiment!r} has weights stored", hint=_with_weights(results))
        )
    if len({_dataset(resolved) for resolved in stored["trial"]}) > 1:
        told = f"{experiment!r} has models of several data sets, which no score ranks: give a run"
        raise InputError(Problem(told, hint=_with_weights(results)))
    column = BEST + results.metric
    if column in stored:
        ascending = results.direction == "min"
        stored = stored.sort_values(column, ascending=ascending, kind="stable", na_position="last")
    row = stored.iloc[0]
    metrics = {name: float(row[name]) for name in results.scalars}
    ids = row["run_id"], row["run_name"], row["trial_id"]
    return _chosen(experiment, *ids, row["trial"], metrics, results.metric)


def _dataset(resolved: str | None) -> str:
    """A trial's data set with its options, as text."""
    return json.dumps(json.loads(resolved or "{}").get("dataset"), sort_keys=True)


def _chosen(
    experiment: str,
    run_id: str,
    name: str,
    trial_id: str,
    resolved: str | None,
    metrics: Mapping[str, float],
    selection: str,
) -> Chosen:
    if not resolved:
        raise InputError(f"run {run_id} does not say what was trained: its trial is not stored")
    final = {
        metric.removeprefix(FINAL): value
        for metric, value in metrics.items()
        if metric.startswith(FINAL) and not isnan(value)
    }
    trial = json.loads(resolved)
    ranked, best = "", metrics.get(BEST_EPOCH)
    if best is not None and not isnan(best) and best != trial.get("epochs"):
        ranked = f"epoch {best:.0f} ({selection} {metrics.get(BEST + selection, nan):.4f})"
    return Chosen(experiment, run_id, name, trial_id, trial, final, ranked)


def _stored(results: Results) -> Any:
    trials = results.trials
    return trials[(trials["outcome"] == Outcome.DONE) & (trials["artifacts"] != "")]


def _with_weights(results: Results) -> str:
    stored = _stored(results)
    if stored.empty:
        return (
            "none of the experiment has; set `artifacts: best` or `all` in its file and run the "
            "sweep again with --rerun"
        )
    pairs = zip(stored["run_id"], stored["run_name"], strict=True)
    return "these have: " + _lines([f"{run_id}  {name}" for run_id, name in pairs])


def _lines(runs: Sequence[str]) -> str:
    left = len(runs) - MOST_NAMED
    more = [f"… and {left} more"] if left > 0 else []
    return "\n      ".join(["", *runs[:MOST_NAMED], *more])
