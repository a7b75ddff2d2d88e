"""The files of a kept trial: figures, predictions, weights, and a model that MLflow loads."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.components.base import DataInfo
from harness.core import paths
from harness.core.errors import StoreError
from harness.core.records import Measured, TestOutputs
from harness.core.text import format_csv
from harness.experiment.plan import PlannedTrial
from harness.store.artifacts.figure_data import (
    FigureData,
    Predictions,
    confusion_matrix,
    epoch_curves,
    image_grid,
    predicted_over_true,
    predictions,
    roc_curves,
)
from harness.store.artifacts.model import log_model
from harness.store.artifacts.trial_outputs import TrialOutputs
from harness.store.names import ARTIFACTS_COMPLETE, WEIGHTS_FILE
from harness.store.retry import with_retries
from harness.store.store import Store

DOTS_PER_INCH = 110
_logger = logging.getLogger(__name__)


def store_artifacts(store: Store, planned: PlannedTrial, kept: TrialOutputs) -> str:
    """Store everything of a kept trial's run. Returns the value of `names.TAG_ARTIFACTS`: once
    all is there "complete"; else what is missing and why, which is also warned of: a figure that
    cannot be drawn does not fail a trial that was trained.

    Raises StoreError where the store cannot be written.
    """
    info = planned.trial.dataset.component.info(planned.trial.dataset.options, paths.data_root())
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, write in _writers(folder, planned, info, kept):
            _try(what, write, missing)
        with_retries(
            "store a run's files", lambda: store.client.log_artifacts(kept.run_id, str(folder))
        )
    _try("model", lambda: log_model(store, planned, info, kept), missing)
    if not missing:
        return ARTIFACTS_COMPLETE
    _logger.warning("%s: artifacts are incomplete: %s", planned.name, "; ".join(missing))
    return "without " + "; ".join(missing)


def write_weights(folder: Path, test_outputs: TestOutputs) -> None:
    """The state dict, for `torch.load(…, weights_only=True)`, with its SHA-256 beside it."""
    import torch

    path = folder / WEIGHTS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(test_outputs.state_dict), path)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    # The form that `sha256sum --check` reads.
    path.with_suffix(".pt.sha256").write_text(f"{checksum}  {path.name}\n")


def write_predictions(path: Path, found: Predictions) -> None:
    """A row for each test example; class names cannot act as formulas in a spreadsheet."""
    path.write_text(format_csv(_header(found), _rows(found)), encoding="utf-8")


def draw_figures(
    folder: Path, name: str, info: DataInfo, history: Sequence[Measured], test_outputs: TestOutputs
) -> None:
    """All figures of a run, as PNG files."""
    from harness.store.artifacts.figures import draw

    folder.mkdir(parents=True, exist_ok=True)
    for file_name, record in _records(name, info, history, test_outputs):
        draw(record).savefig(folder / f"{file_name}.png", dpi=DOTS_PER_INCH)


def _writers(
    folder: Path, planned: PlannedTrial, info: DataInfo, kept: TrialOutputs
) -> Iterator[tuple[str, Callable[[], None]]]:
    test_outputs = kept.test_outputs
    yield "weights", lambda: write_weights(folder, test_outputs)
    yield (
        "predictions",
        lambda: write_predictions(folder / "predictions.csv", predictions(info, test_outputs)),
    )
    yield (
        "figures",
        lambda: draw_figures(folder / "figures", planned.name, info, kept.history, test_outputs),
    )


def _try(what: str, action: Callable[[], None], missing: list[str]) -> None:
    try:
        action()
    except StoreError:
        raise
    except Exception as error:  # whatever torch and matplotlib raise
        _logger.debug("no %s", what, exc_info=True)
        missing.append(f"{what} ({type(error).__name__}: {str(error).splitlines()[0][:200]})")


def _records(
    name: str, info: DataInfo, history: Sequence[Measured], test_outputs: TestOutputs
) -> Iterator[tuple[str, FigureData]]:
    """Each figure with the name of its file."""
    for quantity, record in epoch_curves(name, history).items():
        yield re.sub(r"[^\w-]", "_", quantity), record
    found = predictions(info, test_outputs)
    if not info.task.is_classification:
        for scatter in predicted_over_true(name, found):
            yield f"predicted_over_true_{scatter.name}", scatter
        return
    yield "confusion_matrix", confusion_matrix(name, found)
    characteristic = roc_curves(name, found)
    if characteristic is not None:
        yield "roc", characteristic
    inputs = test_outputs.inputs.numpy()
    if inputs.ndim == 4 and len(inputs):
        yield "sample_images", image_grid(name, found, inputs)


def _header(found: Predictions) -> list[str]:
    if found.probabilities is not None:
        return ["example", "true", "predicted", "probability"]
    names = [f"_{i + 1}" for i in range(found.true.shape[1])] if found.true.shape[1] > 1 else [""]
    return ["example", *(f"true{n}" for n in names), *(f"predicted{n}" for n in names)]


def _rows(found: Predictions) -> Iterator[list[object]]:
    if found.probabilities is None:
        for example, (true, predicted) in enumerate(zip(found.true, found.predicted, strict=True)):
            yield [example, *true.tolist(), *predicted.tolist()]
        return
    chosen = found.probabilities.max(axis=1).tolist()
    pairs = zip(found.true.tolist(), found.predicted.tolist(), chosen, strict=True)
    for example, (true, predicted, probability) in enumerate(pairs):
        row = example, found.classes[true], found.classes[predicted], round(probability, 6)
        yield list(row)
