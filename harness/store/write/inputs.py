"""What a run says of its trial: its params, and its data set as an input of the run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from harness.core import paths
from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import COMPONENT_FIELDS, Choice
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

DIGEST_CHARACTERS: Final = 32
"""Characters of the SHA-256 that are stored as the digest: MLflow's column holds 36."""


class ParamTable:
    """The params of a sweep's runs: the same keys on every run, so that the UI can group them.

    The keys are all trial fields, and each component option that the grid names or that some trial
    sets to another value than its default. If a run's component lacks the option, its value is
    `names.ABSENT`.
    """

    def __init__(self, plan: Plan) -> None:
        trials = [planned.trial for planned in plan.trials]
        fields = {key for trial in trials for key in trial.flat() if "." not in key}
        axes = {axis.field for axis in plan.experiment.axes}
        changed_options = {
            f"{name}.{option}"
            for trial in trials
            for name in COMPONENT_FIELDS
            for option in getattr(trial, name).changed()
        }
        self.keys = tuple(sorted(fields | axes | changed_options))

    def of(self, planned: PlannedTrial) -> dict[str, str]:
        """Returns a run's params by key, with `trial_id` and `config_id`."""
        flat = planned.trial.flat()
        values = {key: flat.get(key, ABSENT) for key in self.keys}
        return values | {PARAM_TRIAL: planned.trial_id, PARAM_CONFIG: planned.config_id}


class DatasetInputs:
    """Fingerprints and MLflow inputs of data sets. Each data set is read once."""

    def __init__(self) -> None:
        self._fingerprints: dict[Choice[Any], str] = {}

    def fingerprint(self, planned: PlannedTrial) -> str:
        """Returns the SHA-256 of the trial's data. Raises DataMissing if its files are gone."""
        choice = planned.trial.dataset
        if choice not in self._fingerprints:
            self._fingerprints[choice] = choice.component.fingerprint(
                choice.options, paths.data_root()
            )
        return self._fingerprints[choice]

    def input(self, planned: PlannedTrial) -> DatasetInput:
        """Returns what MLflow's `log_inputs` takes."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        choice = planned.trial.dataset
        dataset = Dataset(
            name=choice.label[:500],
            digest=self.fingerprint(planned)[:DIGEST_CHARACTERS],
            source_type="code",
            source=json.dumps({"tags": choice.identity()}),
        )
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
