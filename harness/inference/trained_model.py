"""Finds a trial's run in the store, and rebuilds its trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.metrics import BEST, BEST_EPOCH, FINAL
from harness.core.records import Outcome
from harness.core.text import format_score
from harness.store.names import (
    ABSENT,
    PARAM_TRIAL,
    TAG_ARTIFACTS,
    TAG_CODE,
    TAG_METRIC,
    TAG_PARENT,
    TAG_SUPERSEDED,
    short_checksum,
)

if TYPE_CHECKING:
    from torch import Tensor

    from harness.components.base import RawData
    from harness.store.read.results import Results
    from harness.store.store import Store
    from harness.training.batch_sources import BatchSource
    from harness.training.evaluation import ModelOutputs
    from harness.training.setup import TrainingSetup

OWN_MODEL = "a training loop of the user's own keeps its model to itself"
MAX_LISTED = 8
"""How many runs an error lists."""


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A trial's run. Raises InputError where the run does not say what was trained.

    data: the digest of its data set, "" if the run names none. stored_trial: the trial as JSON.
    metrics: the run's scalars, NaN where it has none. selection: the metric that its experiment
    selects on. code: the identities of the user's code that it was trained with, as `Trial.codes`.
    parent_id: the run of its sweep.
    """

    experiment: str
    run_id: str
    name: str
    trial_id: str
    data: str
    stored_trial: str | None
    metrics: Mapping[str, float]
    selection: str
    code: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    parent_id: str = ""

    def __post_init__(self) -> None:
        if not self.stored_trial:
            what = "does not say what was trained: its trial is not stored"
            raise InputError(f"run {self.run_id} {what}")

    @property
    def resolved(self) -> Mapping[str, Any]:
        """The trial, as JSON holds it."""
        trial: Mapping[str, Any] = json.loads(self.stored_trial or "{}")
        return trial

    @property
    def final(self) -> Mapping[str, float]:
        """The metrics after its last epoch, whose weights are stored ("test/accuracy")."""
        final = {n.removeprefix(FINAL): v for n, v in self.metrics.items() if n.startswith(FINAL)}
        return {name: value for name, value in final.items() if not isnan(value)}

    @property
    def ranked(self) -> str:
        """The epoch at which `compare` ranks it, and its metric there ("epoch 3 (val/accuracy
        0.9312)"); empty where that is the last epoch."""
        best = self.metrics.get(BEST_EPOCH, nan)
        if isnan(best) or best == self.resolved.get("epochs"):
            return ""
        value = self.metrics.get(BEST + self.selection, nan)
        return f"epoch {best:.0f} ({self.selection} {format_score(value)})"

    def load_weights(self, store: Store) -> Mapping[str, Tensor]:
        """Reads the weights. Raises InputError where there are none, and lists runs with some."""
        from harness.store.read.results import read_results
        from harness.store.read.run_details import fetch_weights

        weights = fetch_weights(store, self.run_id)
        if weights is None:
            problem = f"run {self.run_id} ({self.name}) has no weights stored"
            if "training_loop" in self.resolved:
                problem += f": {OWN_MODEL}"
            hint = _list_with_weights(read_results(store, self.experiment))
            raise InputError(Problem(problem, hint=hint))
        return weights


def find_run(store: Store, reference: str) -> TrainedRun:
    """Finds the run that `reference` names.

    It is the id of a run or a trial, the beginning of either, or an experiment's name, which stands
    for its best run that has weights. Raises InputError where it names no run, or several.
    """
    from harness.store.read.code_versions import read_codes
    from harness.store.read.results import experiment_names, find_trials, stored_trial
    from harness.store.read.runs import data_digest

    experiments = experiment_names(store)
    if reference in experiments:
        return _best_run(store, reference)
    matches = find_trials(store, reference)
    current = [match for match in matches if TAG_SUPERSEDED not in match[1].data.tags]
    exact = [match for match in matches if match[1].info.run_id == reference]
    candidates = exact or current or matches
    if len({run.data.params.get(PARAM_TRIAL) for _, run in candidates}) > 1:
        listed = [f"{run.info.run_id}  {run.info.run_name}" for _, run in candidates]
        problem = f"{reference!r} is the beginning of {len(candidates)} runs' ids; give more of it"
        raise InputError(Problem(problem, hint=_lines(listed)))
    if not candidates:
        hint = did_you_mean(reference, experiments) if experiments else "no experiment has run yet"
        raise InputError(Problem(f"no run or experiment is called {reference!r}", hint=hint))
    # Of several runs of one trial, the newest that has weights, or else the newest.
    with_weights = [match for match in candidates if TAG_ARTIFACTS in match[1].data.tags]
    experiment, run = (with_weights or candidates)[-1]
    info, data, tags = run.info, run.data, run.data.tags
    name, trial_id = info.run_name or info.run_id, data.params.get(PARAM_TRIAL, "")
    ids = info.run_id, name, trial_id, data_digest(run)
    trial = stored_trial(store, run)
    code, parent_id = read_codes(tags.get(TAG_CODE, "")), tags.get(TAG_PARENT, "")
    selection = tags.get(TAG_METRIC, "")
    return TrainedRun(experiment, *ids, trial, data.metrics, selection, code, parent_id)


def _best_run(store: Store, experiment: str) -> TrainedRun:
    """Returns the experiment's best run by its selection metric, among those with weights that were
    trained on the newest data."""
    from harness.analysis.versions import separate_versions
    from harness.store.read.code_versions import read_codes
    from harness.store.read.results import read_results

    results = read_results(store, experiment)
    trials = _with_weights(results)
    if trials.empty:
        problem = f"no run of {experiment!r} has weights stored"
        raise InputError(Problem(problem, hint=_list_with_weights(results)))
    found = separate_versions(trials, results.fields)
    trials = found.trials[found.current]
    options = [name for name in results.fields if name.startswith("dataset.")]
    if len(trials.drop_duplicates(["dataset", *options])) > 1:
        problem = f"{experiment!r} has models of several data sets, which no score ranks"
        raise InputError(Problem(f"{problem}: give a run", hint=_list_with_weights(results)))
    column = BEST + results.metric
    if column in trials:
        ascending = results.direction == "min"
        trials = trials.sort_values(column, ascending=ascending, kind="stable", na_position="last")
    row = trials.iloc[0]
    metrics = {name: float(row[name]) for name in results.scalars}
    ids = row["run_id"], row["run_name"], row["trial_id"], row["data"]
    code, parent_id = read_codes(row["code"]), row["parent_id"] or ""
    return TrainedRun(experiment, *ids, row["trial"], metrics, results.metric, code, parent_id)


def _with_weights(results: Results) -> Any:
    trials = results.trials
    return trials[(trials["outcome"] == Outcome.DONE) & (trials["artifacts"] != "")]


def _list_with_weights(results: Results) -> str:
    trials = _with_weights(results)
    if trials.empty and (results.trials["training_loop"] != ABSENT).all():
        return OWN_MODEL
    if trials.empty:
        settings = "`artifacts: best` or `all` in its file"
        return f"none of the experiment has; set {settings} and run the sweep again with --rerun"
    names = trials["run_id"] + "  " + trials["run_name"]
    return "these have: " + _lines(names.tolist())


def _lines(runs: Sequence[str]) -> str:
    rest = len(runs) - MAX_LISTED
    more = [f"… and {rest} more"] if rest > 0 else []
    return "\n      ".join(["", *runs[:MAX_LISTED], *more])


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A run's model with its weights, and its data.

    same_data: whether the data set has the checksum of the one that the model was trained on.
    """

    run: TrainedRun
    setup: TrainingSetup
    data_root: Path
    same_data: bool

    @classmethod
    def rebuild(
        cls, run: TrainedRun, weights: Mapping[str, Tensor], data_root: Path, device: str
    ) -> TrainedModel:
        """Rebuilds the model of a run.

        Raises InputError where a component or the data is missing, or the weights do not fit.
        """
        from pydantic import ValidationError

        from harness.experiment.trial import Trial
        from harness.training.device import resolve
        from harness.training.setup import TrainingSetup

        try:
            trial = Trial.of(run.resolved)
        except (ValidationError, TypeError, KeyError) as error:
            raise InputError(
                f"run {run.run_id} was stored by a version whose trials this one cannot rebuild: "
                f"{error}"
            ) from error
        if trial.codes() != run.code:
            raise InputError(f"run {run.run_id} was trained with other code than it names")
        setup = TrainingSetup(trial, data_root, resolve(device))
        try:
            setup.model.load_state_dict(weights)
        except RuntimeError as error:
            problem = f"the weights of run {run.run_id} do not fit its model"
            raise InputError(Problem(problem, hint=str(error).replace("\n", " "))) from error
        # Not by the trial's id, which a later version may give another form. A run that names no
        # data set is given the benefit of the doubt: its scores are compared all the same.
        digest = short_checksum(trial.fingerprint(data_root).data)
        return cls(run, setup, data_root, same_data=run.data in ("", digest))

    @property
    def raw(self) -> RawData:
        """The data set as it was read."""
        from harness.training.data import load_dataset

        return load_dataset(self.setup.trial.dataset, self.data_root)

    def predict_test(self) -> ModelOutputs:
        """Returns the outputs on the test split, which has the same examples as in training."""
        return self._outputs(self.setup.data.test)

    def predict(self, inputs: Tensor) -> ModelOutputs:
        """Returns the outputs for inputs [N, …], given as the data set stores its own. Targets are
        all 0, or an autoencoder's inputs."""
        from harness.training.data import prepare_unseen

        source = prepare_unseen(self.setup.trial, self.data_root, self.setup.device, inputs)
        return self._outputs(source)

    def _outputs(self, source: BatchSource) -> ModelOutputs:
        from harness.training.evaluation import evaluate

        return evaluate(self.setup, source)
