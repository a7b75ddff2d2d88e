"""Stores a trial's artifacts: figures, predictions, weights, and a model that MLflow loads."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.components.base import DataInfo, Task
from harness.core import paths
from harness.core.errors import StoreError, first_line
from harness.core.records import TestOutputs
from harness.core.text import format_csv
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Trial
from harness.store.artifacts import figures
from harness.store.artifacts.best_trials import TrialOutputs
from harness.store.artifacts.figures import FigureData, Predictions, predictions
from harness.store.names import ARTIFACTS_COMPLETE, WEIGHTS_FILE
from harness.store.retry import with_retries
from harness.store.store import Store

if TYPE_CHECKING:
    import torch
    from torch import nn

DOTS_PER_INCH = 110
MODEL_NAME = "model"
EXAMPLE_BATCH = 2
"""The traced batch size; with 1, torch would export a graph for batches of one alone."""
_logger = logging.getLogger(__name__)


def store_artifacts(store: Store, planned: PlannedTrial, outputs: TrialOutputs) -> str:
    """Stores all artifacts of a trial's run.

    Returns the value of `names.TAG_ARTIFACTS`: "complete", or what is missing and why, after a
    warning: a figure that cannot be drawn does not fail a trial that was trained. Raises StoreError
    if the store cannot be written.
    """
    info = planned.trial.dataset.component.info(planned.trial.dataset.options, paths.data_root())
    test_outputs = outputs.test_outputs
    missing: list[str] = []
    attempt = partial(_attempt, missing)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        attempt("weights", lambda: write_weights(folder, test_outputs))
        csv = folder / "predictions.csv"
        if info.task is not Task.AUTOENCODING:  # As many values as the data have; some are stored.
            attempt("predictions", lambda: write_predictions(csv, predictions(info, test_outputs)))
        attempt("figures", lambda: draw_figures(folder / "figures", planned.name, info, outputs))
        upload = store.client.log_artifacts
        with_retries("store a run's files", upload, outputs.run_id, str(folder))
        attempt("model", lambda: log_model(store, planned, info, outputs))
    if not missing:
        return ARTIFACTS_COMPLETE
    _logger.warning("%s: artifacts are incomplete: %s", planned.name, "; ".join(missing))
    return "without " + "; ".join(missing)


def write_weights(folder: Path, test_outputs: TestOutputs) -> None:
    """Writes the state dict, for `torch.load(…, weights_only=True)`, and its SHA-256 beside it."""
    import torch

    path = folder / WEIGHTS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(test_outputs.state_dict), path)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    # The form that `sha256sum --check` reads.
    path.with_suffix(".pt.sha256").write_text(f"{checksum}  {path.name}\n")


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes a CSV file with a row for each test example, safe to open in a spreadsheet."""
    columns = prediction_columns(predictions)
    header = ["example", *columns]
    rows = zip(range(len(predictions)), *columns.values(), strict=True)
    path.write_text(format_csv(header, rows), encoding="utf-8")


def prediction_columns(
    predictions: Predictions, targets_known: bool = True
) -> dict[str, Sequence[object]]:
    """Returns the columns of a table of predictions by their names: true and predicted values, and
    probabilities. targets_known: whether there is a true value."""
    task, true, predicted = predictions.task, predictions.true, predictions.predicted
    pairs = {"true": true, "predicted": predicted} if targets_known else {"predicted": predicted}
    if task is Task.AUTOENCODING:
        return {"error": predictions.errors.tolist()}
    if predictions.probabilities is None:
        numbers = range(predicted.shape[1])
        ends = [f"_{number + 1}" for number in numbers] if len(numbers) > 1 else [""]
    elif task is Task.MULTILABEL:
        ends = [f"_{name}" for name in predictions.classes]
        pairs["probability"] = predictions.probabilities.round(6)
    else:
        chosen = np.take_along_axis(predictions.probabilities, predicted[:, None], axis=1)
        names: dict[str, Sequence[object]] = {
            kind: [predictions.classes[number] for number in numbers.tolist()]
            for kind, numbers in pairs.items()
        }
        return names | {"probability": [round(share, 6) for share in chosen[:, 0].tolist()]}
    return {
        f"{kind}{end}": values[:, place].tolist()
        for kind, values in pairs.items()
        for place, end in enumerate(ends)
    }


def draw_figures(folder: Path, name: str, info: DataInfo, outputs: TrialOutputs) -> None:
    """Draws all figures of a run as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, data in _figures(name, info, outputs):
        figures.draw(data).savefig(folder / f"{file_name}.png", dpi=DOTS_PER_INCH)


def log_model(store: Store, planned: PlannedTrial, info: DataInfo, outputs: TrialOutputs) -> None:
    """Logs the network with its trained weights, in evaluation mode, as output of the trial's run.

    It is stored as an exported graph (PyTorch's pt2), which has no pickled code, loads without this
    package, and accepts batches of any size. MLflow's active run and global tracking address are
    not used. Raises what torch raises if a network cannot be exported, before anything is stored.
    """
    from mlflow.entities import LoggedModelOutput

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, MODEL_NAME)
        network = rebuild(planned.trial, info, outputs.test_outputs.state_dict)
        run = store.run(outputs.run_id)
        model = with_retries(
            "store a model",
            store.client.create_logged_model,
            run.info.experiment_id,
            name=MODEL_NAME,
            source_run_id=outputs.run_id,
            params=run.data.params,
            model_type=planned.trial.model.name,
        )
        model_id = str(model.model_id)
        try:
            _save_model(folder, network, info, model_id=model_id, run_id=outputs.run_id)
            upload = store.client.log_model_artifacts
            with_retries("store a model", upload, model_id, str(folder))
        except BaseException:
            store.client.finalize_logged_model(model_id, "FAILED")
            raise
    with_retries("store a model", store.client.finalize_logged_model, model_id, "READY")
    output = LoggedModelOutput(model_id, step=planned.trial.epochs)
    with_retries("store a model", store.client.log_outputs, outputs.run_id, [output])


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


def _attempt(missing: list[str], purpose: str, action: Callable[[], None]) -> None:
    """Calls `action`, and adds to `missing` what failed. Raises StoreError only."""
    try:
        action()
    except StoreError:
        raise
    except Exception as error:  # Whatever torch and matplotlib raise.
        _logger.debug("no %s", purpose, exc_info=True)
        reason = first_line(error)[:200]
        missing.append(f"{purpose} ({type(error).__name__}: {reason})")


def _figures(name: str, info: DataInfo, outputs: TrialOutputs) -> Iterator[tuple[str, FigureData]]:
    """Yields each figure's data with the name of its file."""
    for quantity, curves in figures.epoch_curves(name, outputs.history).items():
        yield re.sub(r"[^\w-]", "_", quantity), curves
    if info.task is Task.AUTOENCODING:
        if info.is_image and len(outputs.test_outputs.targets):
            shown = figures.reconstructions(name, outputs.test_outputs, info.shape)
            yield "reconstructions", shown
        return
    test_predictions = predictions(info, outputs.test_outputs)
    if test_predictions.probabilities is None:
        for target in figures.predicted_over_true(name, test_predictions):
            yield f"predicted_over_true_{target.name}", target
        return
    if info.task is not Task.MULTILABEL:  # Its examples have several classes, or none.
        yield "confusion_matrix", figures.confusion_matrix(name, test_predictions)
    roc = figures.roc_curves(name, test_predictions)
    if roc is not None:
        yield "roc", roc
    inputs = outputs.test_outputs.inputs.numpy()
    if inputs.ndim == 4 and len(inputs):
        yield "sample_images", figures.image_grid(name, test_predictions, inputs)


def _save_model(
    folder: Path, network: nn.Module, info: DataInfo, *, model_id: str, run_id: str
) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models import Model, infer_signature

    kind = torch.int64 if info.tokens else torch.float32
    example = torch.zeros(EXAMPLE_BATCH, *info.shape, dtype=kind)
    with torch.no_grad():
        signature = infer_signature(example.numpy(), network(example).numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch's exporter warns about its own parts.
        mlflow.pytorch.save_model(
            network,
            str(folder),
            mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
            signature=signature,
            input_example=example.numpy(),
            # Without them MLflow would start a process to find them out.
            pip_requirements=[f"torch=={version('torch')}"],
            serialization_format="pt2",
        )
