"""The data set of a run, as MLflow's input of that run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.core import paths
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Choice

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

DIGEST_CHARACTERS = 32
"""Of the SHA-256; MLflow's column holds 36. The provenance has it whole."""


class DatasetInputs:
    """Fingerprints and inputs of data sets, each read once."""

    def __init__(self) -> None:
        self._fingerprints: dict[Choice[Any], str] = {}

    def fingerprint(self, planned: PlannedTrial) -> str:
        """The SHA-256 of the trial's data. Raises DataMissing where its files are gone."""
        choice = planned.trial.dataset
        if choice not in self._fingerprints:
            self._fingerprints[choice] = choice.component.fingerprint(
                choice.options, paths.data_root()
            )
        return self._fingerprints[choice]

    def input(self, planned: PlannedTrial) -> DatasetInput:
        """What `log_inputs` takes."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        choice = planned.trial.dataset
        dataset = Dataset(
            name=choice.label[:500],
            digest=self.fingerprint(planned)[:DIGEST_CHARACTERS],
            source_type="code",
            source=json.dumps({"tags": choice.identity()}),
        )
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
