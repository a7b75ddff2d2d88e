"""Logs a trained network as an MLflow model: `mlflow.pytorch.load_model("runs:/<run>/model")`."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.components.base import DataInfo
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Trial
from harness.store.artifacts.trial_outputs import TrialOutputs
from harness.store.retry import with_retries
from harness.store.store import Store

if TYPE_CHECKING:
    import torch
    from mlflow.models import ModelSignature
    from torch import nn

NAME = "model"
EXAMPLE_BATCH = 2
"""The traced batch size; with 1, torch would export a graph for batches of one alone."""


def log_model(store: Store, planned: PlannedTrial, info: DataInfo, outputs: TrialOutputs) -> None:
    """Logs the network with its trained weights, in evaluation mode, as output of the trial's run.

    It is stored as an exported graph (PyTorch's pt2), which has no pickled code, loads without this
    package, and accepts batches of any size. MLflow's active run and global tracking address are
    not used. Raises what torch raises if a network cannot be exported, before anything is stored.
    """
    from mlflow.entities import LoggedModelOutput

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, NAME)
        network = rebuild(planned.trial, info, outputs.test_outputs.state_dict)
        model_id = _initialise(store, planned, outputs.run_id)
        try:
            _save(folder, network, info, model_id=model_id, run_id=outputs.run_id)
            with_retries(
                "store a model",
                lambda: store.client.log_model_artifacts(model_id, str(folder)),
            )
        except BaseException:
            store.client.finalize_logged_model(model_id, "FAILED")
            raise
    with_retries("store a model", lambda: store.client.finalize_logged_model(model_id, "READY"))
    output = LoggedModelOutput(model_id, step=planned.trial.epochs)
    with_retries("store a model", lambda: store.client.log_outputs(outputs.run_id, [output]))


def rebuild(trial: Trial, info: DataInfo, state_dict: Mapping[str, torch.Tensor]) -> nn.Module:
    """Returns the trial's network with these weights, in evaluation mode.

    Torch's random state does not change.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        output_count = trial.loss.component.outputs(info)
        network = trial.model.component.build(trial.model.options, info, output_count)
    network.load_state_dict(state_dict)
    return network.eval()


def _initialise(store: Store, planned: PlannedTrial, run_id: str) -> str:
    run = with_retries("read a run", lambda: store.client.get_run(run_id))
    model = with_retries(
        "store a model",
        lambda: store.client.create_logged_model(
            run.info.experiment_id,
            name=NAME,
            source_run_id=run_id,
            params=run.data.params,
            model_type=planned.trial.model.name,
        ),
    )
    return str(model.model_id)


def _save(folder: Path, network: nn.Module, info: DataInfo, *, model_id: str, run_id: str) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models import Model

    example = torch.zeros(EXAMPLE_BATCH, *info.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch's exporter warns about its own parts.
        mlflow.pytorch.save_model(
            network,
            str(folder),
            mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
            signature=_signature(network, example),
            input_example=example.numpy(),
            # Without them MLflow would start a process to find them out.
            pip_requirements=[f"torch=={version('torch')}"],
            serialization_format="pt2",
        )


def _signature(network: nn.Module, example: torch.Tensor) -> ModelSignature:
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    with torch.no_grad():
        output = network(example)
    single = np.dtype("float32")
    return ModelSignature(
        inputs=Schema([TensorSpec(single, (-1, *example.shape[1:]))]),
        outputs=Schema([TensorSpec(single, (-1, *output.shape[1:]))]),
    )
