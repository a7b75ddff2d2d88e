"""What a run says of its trial: its params, and its data set as an input of the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import COMPONENT_FIELDS, is_absent
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL, short_checksum

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


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


def dataset_input(planned: PlannedTrial) -> DatasetInput | None:
    """Returns what MLflow's `log_inputs` takes; None for a trial without a data set. The digest is
    of the planned data: a worker trains on no other."""
    if is_absent("dataset", planned.trial.dataset):
        return None
    from mlflow.entities import Dataset, DatasetInput, InputTag

    choice = planned.trial.dataset
    dataset = Dataset(
        name=choice.label[:500],
        digest=short_checksum(planned.fingerprint.data),
        source_type="code",
        source=_source(choice.identity()),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _source(identity: Mapping[str, Any]) -> str:
    """Returns the data set's options as MLflow stores them; their checksum where they are longer
    than it allows. The run's own record has them whole."""
    from mlflow.utils.validation import MAX_DATASET_SOURCE_SIZE

    source = json.dumps({"tags": dict(identity)})
    if len(source) > MAX_DATASET_SOURCE_SIZE:
        checksum = hashlib.sha256(source.encode()).hexdigest()
        source = json.dumps({"tags": {"name": identity["name"], "options_sha256": checksum}})
    return source
