"""Writes predictions: a table, and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import HarnessError
from harness.core.text import format_csv, format_score
from harness.inference.trained_model import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor

    from harness.store.artifacts.figures import Predictions

MAX_IMAGES = 32
"""How many images the gallery shows."""
MAX_LINES = 20
"""How many predictions of files are printed; all are written."""
TOLERANCE = 1e-3
"""Share by which a metric may differ from training's: another device rounds differently."""


def predict_test(folder: Path, model: TrainedModel) -> Iterator[str]:
    """Predicts the test split, and writes `predictions.csv` and figures to a folder.

    Yields lines for people.
    """
    from harness.store.artifacts.figures import draw, predicted_over_true
    from harness.store.artifacts.trial_files import write_predictions
    from harness.training.evaluation import compute_metrics

    scores = model.predict_test()
    yield f"test split: {len(scores.targets)} examples"
    yield from _metric_lines(compute_metrics("test", scores, model.setup.all_metrics), model)
    predictions = _predictions(model, scores.outputs, scores.targets)
    _make_folder(folder)
    write_predictions(folder / "predictions.csv", predictions)
    yield f"predictions: {folder / 'predictions.csv'}"
    if model.raw.info.is_image:
        yield f"gallery:     {_draw_test_gallery(folder, model, predictions)}"
    elif not model.raw.info.task.is_classification:
        for scatter in predicted_over_true(model.run.name, predictions):
            path = folder / f"predicted_over_true_{scatter.name}.png"
            draw(scatter).savefig(path, dpi=120)
            yield f"figure:      {path}"


def predict_files(folder: Path, model: TrainedModel, paths: Sequence[Path]) -> Iterator[str]:
    """Predicts files, and writes `predictions.csv`, and a gallery of images, to a folder.

    Yields lines for people. Raises InputError with every file that the model cannot read.
    """
    from harness.inference.inputs import read_inputs

    files = read_inputs(paths, model.raw)
    images = files.inputs.clone() if model.raw.info.is_image else None
    predictions = _predictions(model, model.predict(files.inputs), None)
    header, rows = _file_rows(files.names, predictions)
    for name, *values in rows[:MAX_LINES]:
        if predictions.probabilities is None:
            yield f"{name}: " + ", ".join(f"{value:.6g}" for value in values)
        else:
            yield f"{name}: {values[0]} ({values[1]:.3f})"
    if len(rows) > MAX_LINES:
        yield f"… and {len(rows) - MAX_LINES} more"
    _make_folder(folder)
    (folder / "predictions.csv").write_text(format_csv(header, rows), encoding="utf-8")
    yield f"predictions: {folder / 'predictions.csv'}"
    if images is not None:
        shown = [(images[i].numpy(), f"{row[1]}", None) for i, row in enumerate(rows[:MAX_IMAGES])]
        yield f"gallery:     {_draw_gallery(folder, model.run.name, shown)}"


def _metric_lines(metrics: Mapping[str, float], model: TrainedModel) -> Iterator[str]:
    """Yields each metric, with the value stored at training where that differs."""
    width = max(map(len, metrics))
    any_differs = False
    for name, value in metrics.items():
        stored = model.run.final.get(name)
        line = f"  {name:<{width}}  {format_score(value)}"
        if stored is not None and not isclose(value, stored, rel_tol=TOLERANCE):
            any_differs = True
            line += f"  (at training {format_score(stored)})"
        yield line
    if any_differs and not model.same_data:
        yield "note: the data on this machine differs from the data that this run was trained on"


def _predictions(model: TrainedModel, outputs: Tensor, targets: Tensor | None) -> Predictions:
    """targets: None where they are unknown; the record then holds zeros."""
    import torch

    from harness.core.records import TestOutputs
    from harness.store.artifacts.figures import predictions

    info = model.raw.info
    if targets is None:
        shape = (len(outputs),) if info.class_names else (len(outputs), info.targets)
        targets = torch.zeros(shape, dtype=torch.int64 if info.class_names else torch.float32)
    inputs = torch.empty(0)
    return predictions(info, TestOutputs({}, outputs.cpu(), targets.cpu(), inputs))


def _file_rows(names: Sequence[str], predictions: Predictions) -> tuple[list[str], list[Any]]:
    """Returns the header and the rows of the table of predictions on files."""
    predicted, probabilities = predictions.predicted, predictions.probabilities
    if probabilities is None:
        n_targets = predicted.shape[1]
        numbered = [f"predicted_{i + 1}" for i in range(n_targets)]
        header = ["input", *(["predicted"] if n_targets == 1 else numbered)]
        return header, [(n, *values) for n, values in zip(names, predicted.tolist(), strict=True)]
    pairs = zip(names, predicted.tolist(), probabilities.max(axis=1).tolist(), strict=True)
    rows = [(name, predictions.classes[number], round(p, 6)) for name, number, p in pairs]
    return ["input", "predicted", "probability"], rows


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(f"cannot write to {folder}: {error.strerror}") from error


def _draw_test_gallery(folder: Path, model: TrainedModel, predictions: Predictions) -> Path:
    """Draws test images with their predicted classes, mistakes first."""
    import torch

    from harness.training.batch_sources import InMemorySource, StreamingSource

    correct = predictions.true == predictions.predicted
    # False sorts before True; equals stay in the split's order.
    order = correct.argsort(kind="stable")[:MAX_IMAGES].tolist()
    source = model.setup.data.test
    if isinstance(source, InMemorySource):
        images = source.stored[order].cpu()
    else:
        assert isinstance(source, StreamingSource)  # noqa: S101 - there are two kinds
        images = torch.stack([source.inputs[index] for index in order])
    shown = []
    for index, image in zip(order, images, strict=True):
        caption = predictions.classes[predictions.predicted[index]]
        if not correct[index]:
            caption += f" (true: {predictions.classes[predictions.true[index]]})"
        shown.append((image.numpy(), caption, bool(correct[index])))
    mistakes = f"{int((~correct).sum())} mistakes on {len(predictions)} test images"
    return _draw_gallery(folder, f"{model.run.name}\n{mistakes}, mistakes first", shown)


def _draw_gallery(folder: Path, title: str, shown: Sequence[tuple[Any, str, bool | None]]) -> Path:
    """shown: image [C, H, W], caption, and whether it is correct; None where that is unknown."""
    from math import ceil

    from matplotlib.figure import Figure

    from harness.store.artifacts.figures import BLUE, NAME_CHARACTERS, ORANGE, plain

    n_columns = min(8, len(shown))
    n_rows = ceil(len(shown) / n_columns)
    figure = Figure(figsize=(1.35 * n_columns + 1, 1.6 * n_rows + 0.9), layout="constrained")
    figure.suptitle(plain(title), fontsize="medium")
    grid = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    marks = {True: ("✓ ", BLUE), False: ("✗ ", ORANGE), None: ("", "black")}
    for axes in grid:
        axes.axis("off")
    for axes, (image, caption, correct) in zip(grid, shown, strict=False):
        mark, colour = marks[correct]
        pixels = image.astype("float64") / max(float(image.max()), 1.0)  # in [0, 1]
        pixels = pixels[0] if len(pixels) == 1 else pixels[:3].transpose(1, 2, 0)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        axes.set_title(mark + plain(caption, NAME_CHARACTERS), fontsize=8, color=colour)
    path = folder / "gallery.png"
    figure.savefig(path, dpi=120)
    return path
