"""Whether an architecture can be stacked, told before any data is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from harness.experiment.trial import Trial
from harness.training.stacked.network import Network
from harness.training.stacked.passes import Unstackable
from harness.training.stacked.refusals import of_vmap
from harness.training.stacked.sharing import Sharing
from harness.training.stacked.state import stateless

ROWS, EXAMPLES = 2, 4


def refusal(trial: Trial, data_root: Path) -> str | None:
    """Why this trial's model cannot train as a stack, from its layers and a pass over inputs
    without values; None where it may.

    The model is built without memory for its weights; one that cannot be built or run so is not
    judged.
    """
    info = trial.dataset.component.info(trial.dataset.options, data_root)
    outputs = trial.loss.component.outputs(info)
    nowhere = torch.device("meta")
    try:
        with nowhere:
            model = trial.model.component.build(trial.model.options, info, outputs)
            network = Network([model] * ROWS, nowhere)
            with stateless(model):
                _rehearse(network, info.shape)
    except Unstackable as reason:
        return f"model {trial.model.name}: {reason}"
    except Exception as error:  # noqa: BLE001 - whatever a model raises that wants real weights
        known = of_vmap(error)
        return known and f"model {trial.model.name}: {known}"
    return None


def _rehearse(network: Network, shape: Sequence[int]) -> None:
    """A pass in each mode over examples of a shape."""
    sharing = Sharing.of(torch.zeros(ROWS, dtype=torch.int64, device="cpu"), 1)
    for training in (True, False):
        network.rehearse(torch.empty((1, EXAMPLES, *shape)), sharing, training)
