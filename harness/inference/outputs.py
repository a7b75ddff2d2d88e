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
    from harness.store.artifacts.figures import Predictions
    from harness.training.evaluation import ModelOutputs

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
    from harness.components.base import Task
    from harness.store.artifacts.figures import draw, predicted_over_true
    from harness.store.artifacts.trial_files import write_predictions
    from harness.training.evaluation import compute_metrics

    scores = model.predict_test()
    yield f"test split: {len(scores.targets)} examples"
    yield from _metric_lines(compute_metrics("test", scores, model.setup.all_metrics), model)
    predictions = _predictions(model, scores)
    _make_folder(folder)
    write_predictions(folder / "predictions.csv", predictions)
    yield f"predictions: {folder / 'predictions.csv'}"
    if model.raw.info.is_image:
        yield f"gallery:     {_draw_test_gallery(folder, model, predictions)}"
    elif predictions.probabilities is None and model.raw.info.task is not Task.AUTOENCODING:
        for scatter in predicted_over_true(model.run.name, predictions):
            path = folder / f"predicted_over_true_{scatter.name}.png"
            draw(scatter).savefig(path, dpi=120)
            yield f"figure:      {path}"


def predict_files(folder: Path, model: TrainedModel, paths: Sequence[Path]) -> Iterator[str]:
    """Predicts files, and writes `predictions.csv`, and a gallery of images, to a folder.

    Yields lines for people. Raises InputError with every file that the model cannot read.
    """
    from harness.inference.inputs import read_inputs
    from harness.store.artifacts.trial_files import prediction_columns

    files = read_inputs(paths, model.raw)
    images = files.inputs.clone() if model.raw.info.is_image else None
    predictions = _predictions(model, model.predict(files.inputs))
    columns = prediction_columns(predictions, targets_known=False)
    lines = [_line(predictions, row, columns) for row in range(min(len(files.names), MAX_LINES))]
    for name, line in zip(files.names, lines, strict=False):
        yield f"{name}: {line}"
    if len(files.names) > MAX_LINES:
        yield f"… and {len(files.names) - MAX_LINES} more"
    _make_folder(folder)
    rows = zip(files.names, *columns.values(), strict=True)
    text = format_csv(["input", *columns], rows)
    (folder / "predictions.csv").write_text(text, encoding="utf-8")
    yield f"predictions: {folder / 'predictions.csv'}"
    if images is not None:
        captions = [_line(predictions, row, columns) for row in range(len(images[:MAX_IMAGES]))]
        shown = [(images[i].numpy(), text, None) for i, text in enumerate(captions)]
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


def _predictions(model: TrainedModel, scores: ModelOutputs) -> Predictions:
    import torch

    from harness.core.records import TestOutputs
    from harness.store.artifacts.figures import predictions

    outputs = TestOutputs({}, scores.outputs.cpu(), scores.targets.cpu(), torch.empty(0))
    return predictions(model.raw.info, outputs)


def _line(predictions: Predictions, row: int, columns: Mapping[str, Sequence[object]]) -> str:
    """Returns what is predicted of an example, for people."""
    from harness.components.base import Task

    probabilities = predictions.probabilities
    if predictions.task is Task.AUTOENCODING:
        return f"error {columns['error'][row]:.6g}"
    if probabilities is None:
        return ", ".join(f"{value:.6g}" for value in predictions.predicted[row].tolist())
    if predictions.task is Task.MULTILABEL:
        of_labels = zip(
            predictions.classes, predictions.predicted[row], probabilities[row], strict=True
        )
        return ", ".join(f"{name} ({p:.3f})" for name, has, p in of_labels if has) or "none"
    number = predictions.predicted[row]
    return f"{predictions.classes[number]} ({probabilities[row, number]:.3f})"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(f"cannot write to {folder}: {error.strerror}") from error


def _draw_test_gallery(folder: Path, model: TrainedModel, predictions: Predictions) -> Path:
    """Draws test images with what is predicted of them, mistakes first."""
    import torch

    from harness.store.artifacts.trial_files import prediction_columns
    from harness.training.batch_sources import InMemorySource, StreamingSource

    ranks = -predictions.errors if predictions.probabilities is None else predictions.right
    # False sorts before True; equals stay in the split's order.
    order = ranks.argsort(kind="stable")[:MAX_IMAGES].tolist()
    source = model.setup.data.test
    if isinstance(source, InMemorySource):
        images = source.stored[order].cpu()
    else:
        assert isinstance(source, StreamingSource)  # noqa: S101 - there are two kinds
        images = torch.stack([source.inputs[index] for index in order])
    captions: list[tuple[str, bool | None]]
    if predictions.probabilities is None:
        columns = prediction_columns(predictions)
        captions = [(_line(predictions, index, columns), None) for index in order]
        subtitle = f"{len(predictions)} test images, the largest errors first"
    else:
        captions = [_caption(predictions, index) for index in order]
        mistakes = int((~predictions.right).sum())
        subtitle = f"{mistakes} mistakes on {len(predictions)} test images, mistakes first"
    shown = [(image.numpy(), *of) for image, of in zip(images, captions, strict=True)]
    return _draw_gallery(folder, f"{model.run.name}\n{subtitle}", shown)


def _caption(predictions: Predictions, index: int) -> tuple[str, bool | None]:
    """Returns what is predicted of an example, and whether it is right."""
    caption = predictions.names(predictions.predicted[index])
    is_right = bool(predictions.right[index])
    if not is_right:
        caption += f" (true: {predictions.names(predictions.true[index])})"
    return caption, is_right


def _draw_gallery(folder: Path, title: str, shown: Sequence[tuple[Any, str, bool | None]]) -> Path:
    """shown: image [C, H, W], caption, and whether it is correct; None where that is unknown."""
    from math import ceil

    from matplotlib.figure import Figure

    from harness.store.artifacts.figures import (
        BLUE,
        NAME_CHARACTERS,
        ORANGE,
        image_pixels,
        plain,
    )

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
        axes.imshow(image_pixels(pixels), cmap="gray", vmin=0, vmax=1)
        axes.set_title(mark + plain(caption, NAME_CHARACTERS), fontsize=8, color=colour)
    path = folder / "gallery.png"
    figure.savefig(path, dpi=120)
    return path
