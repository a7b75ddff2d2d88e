"""A trained model, rebuilt from its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import InputError, Problem
from harness.inference.run_choice import Chosen

if TYPE_CHECKING:
    from torch import Tensor

    from harness.components.base import RawData
    from harness.training.batch_sources import BatchSource
    from harness.training.evaluation import ModelOutputs
    from harness.training.setup import TrainingSetup


@dataclass(frozen=True, slots=True)
class Trained:
    """A run's model with its weights, and its data. same_data: whether the data set found here is
    the one it was trained on, by its checksum."""

    chosen: Chosen
    parts: TrainingSetup
    data_root: Path
    same_data: bool

    @classmethod
    def of(
        cls, chosen: Chosen, weights: Mapping[str, Tensor], data_root: Path, device: str
    ) -> Trained:
        """Rebuild it. Raises InputError where a component or the data is not here, or the weights
        do not fit what is built."""
        from pydantic import ValidationError

        from harness.experiment.trial import Trial
        from harness.training.device import resolve
        from harness.training.setup import set_up

        try:
            trial = Trial.of(chosen.resolved)
        except (ValidationError, TypeError, KeyError) as error:
            raise InputError(
                f"run {chosen.run_id} was stored by a version whose trials this one cannot "
                f"rebuild: {error}"
            ) from error
        parts = set_up(trial, data_root, resolve(device))
        try:
            parts.model.load_state_dict(weights)
        except RuntimeError as error:
            problem = f"the weights of run {chosen.run_id} do not fit its model"
            raise InputError(Problem(problem, hint=str(error).replace("\n", " "))) from error
        return cls(chosen, parts, data_root, _same_data(parts, data_root, chosen.trial_id))

    @property
    def raw(self) -> RawData:
        """The data set as it was read."""
        from harness.training.data import load_dataset

        return load_dataset(self.parts.trial, self.data_root)

    def test(self) -> ModelOutputs:
        """Outputs on the test split, the same examples as in training."""
        return self._outputs(self.parts.data.test)

    def on(self, inputs: Tensor) -> Tensor:
        """Outputs [N, O] for inputs stored as the data set stores its own, [N, …]."""
        from harness.training.data import prepare_unseen

        source = prepare_unseen(self.parts.trial, self.data_root, self.parts.device, inputs)
        return self._outputs(source).outputs.cpu()

    def _outputs(self, source: BatchSource) -> ModelOutputs:
        from harness.training.evaluation import evaluate
        from harness.training.loop import autocast

        parts = self.parts
        size = parts.trial.eval_batch_size
        return evaluate(parts.model, source, parts.loss, size, autocast(parts))


def _same_data(parts: TrainingSetup, data_root: Path, trial_id: str) -> bool:
    from harness.experiment.trial import make_trial_id

    trial = parts.trial
    prints = (
        trial.dataset.component.fingerprint(trial.dataset.options, data_root),
        trial.model.component.fingerprint(trial.model.options),
    )
    return make_trial_id(trial.identity(), "+".join(filter(None, prints))) == trial_id
