"""What the figures of a run show, as plain data; `figures` draws it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.components.base import DataInfo
from harness.core.records import Measured, TestOutputs

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

SPLITS = ("train", "val", "test")
ROC_CURVES = 10
GALLERY_IMAGES = 24


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions on the test split.

    true, predicted: [N] class numbers, or [N, T] values of a regression. probabilities: [N, C] of
    each class, None for a regression. classes: names by number.
    """

    true: NDArray[Any]
    predicted: NDArray[Any]
    probabilities: Floats | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.true)

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.true == self.predicted))


@dataclass(frozen=True, slots=True)
class FigureLine:
    """One curve: x and y of one length."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EpochCurves:
    """A quantity by epoch, with a line for each split."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[FigureLine, ...]


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """counts[i, j]: examples of class i that were predicted as class j."""

    title: str
    classes: tuple[str, ...]
    counts: Integers


@dataclass(frozen=True, slots=True)
class RocCurves:
    """Receiver operating characteristic of each class against the rest; the name of a line has its
    area."""

    title: str
    lines: tuple[FigureLine, ...]


@dataclass(frozen=True, slots=True)
class PredictedOverTrue:
    """Predicted over true value, [N] each."""

    title: str
    name: str
    true: Floats
    predicted: Floats


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """Images with their predictions.

    images: [n, H, W] or [n, H, W, 3], in [0, 1]. captions: "predicted (true)". right: whether each
    prediction is right.
    """

    title: str
    images: Floats
    captions: tuple[str, ...]
    right: tuple[bool, ...]


def predictions(info: DataInfo, test_outputs: TestOutputs) -> Predictions:
    """Returns predictions from test outputs: logits of classes, or values of a regression."""
    outputs = test_outputs.outputs.float().numpy()
    targets = test_outputs.targets.numpy()
    if not info.task.is_classification:
        return Predictions(targets, outputs, None, info.classes)
    probabilities = class_probabilities(outputs)
    # A tie of one logit at 0 goes to class 0, as in the metrics; argmax does the same.
    return Predictions(targets, probabilities.argmax(axis=1), probabilities, info.classes)


def class_probabilities(logits: Floats) -> Floats:
    """Returns probabilities [N, C] of logits [N, C], or [N, 2] of logits [N, 1] of class 1."""
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def epoch_curves(name: str, history: Sequence[Measured]) -> dict[str, EpochCurves]:
    """Returns a figure for each quantity that was measured on splits, by its name ("loss")."""
    quantities = dict.fromkeys(
        quantity
        for point in history
        for split, _, quantity in (key.partition("/") for key in point.values)
        if split in SPLITS and quantity
    )
    return {quantity: _curves(name, quantity, history) for quantity in quantities}


def _curves(name: str, quantity: str, history: Sequence[Measured]) -> EpochCurves:
    lines = []
    for split in SPLITS:
        key = f"{split}/{quantity}"
        points = [(float(p.epoch), p.values[key]) for p in history if key in p.values]
        if points:
            x, y = zip(*points, strict=True)
            lines.append(FigureLine(split, x, y))
    epochs = history[-1].epoch
    return EpochCurves(f"{name}\n{quantity} over {epochs} epochs", "epoch", quantity, tuple(lines))


def confusion_matrix(name: str, predictions: Predictions) -> ConfusionMatrix:
    """Returns the counts of each true and predicted class."""
    n = len(predictions.classes)
    pairs = n * predictions.true + predictions.predicted
    counts = np.bincount(pairs, minlength=n * n).reshape(n, n)
    accuracy = f"accuracy {predictions.accuracy:.4f}"
    title = f"{name}\nconfusion on {len(predictions)} test examples, {accuracy}"
    return ConfusionMatrix(title, predictions.classes, counts)


def roc_curves(name: str, predictions: Predictions) -> RocCurves | None:
    """Returns the curve of each class against the rest, or of class 1 of two.

    Classes without both positive and negative examples have no curve; returns None if none has one.
    Of many classes, those with the smallest area are shown.
    """
    assert predictions.probabilities is not None  # noqa: S101 - a classification has them
    count = len(predictions.classes)
    numbers: Iterable[int] = range(count) if count > 2 else (1,)
    drawn = []
    for number in numbers:
        positive = predictions.true == number
        if 0 < positive.sum() < len(positive):
            x, y = roc_points(predictions.probabilities[:, number], positive)
            drawn.append((area(x, y), predictions.classes[number], x, y))
    if not drawn:
        return None
    shown = sorted(drawn, key=lambda curve: curve[0])[:ROC_CURVES]
    lines = tuple(
        FigureLine(f"{label} ({size:.4f})", tuple(x), tuple(y)) for size, label, x, y in shown
    )
    which = f"the {len(shown)} of {len(drawn)} classes with the smallest area, "
    return RocCurves(
        f"{name}\nROC, {which if len(shown) < len(drawn) else ''}{len(predictions)} test examples",
        lines,
    )


def roc_points(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Returns false and true positive rates at every distinct score, from (0, 0) to (1, 1).

    scores: [N], higher means positive. positive: [N], with both values present.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    misses = np.cumsum(~positive[order])
    last_of_ties = np.append(np.nonzero(np.diff(scores[order]))[0], len(scores) - 1)
    x = np.append(0.0, misses[last_of_ties] / misses[-1])
    y = np.append(0.0, hits[last_of_ties] / hits[-1])
    return x, y


def area(x: Floats, y: Floats) -> float:
    """Returns the area under a piecewise linear curve."""
    return float(np.trapezoid(y, x))


def predicted_over_true(name: str, predictions: Predictions) -> list[PredictedOverTrue]:
    """Returns a scatter plot for each target of a regression."""
    plots = []
    targets = predictions.true.shape[1]
    for column in range(targets):
        true, predicted = predictions.true[:, column], predictions.predicted[:, column]
        which = f", target {column + 1} of {targets}" if targets > 1 else ""
        error = float(np.sqrt(np.mean((true - predicted) ** 2)))
        title = f"{name}\n{len(predictions)} test examples{which}, RMSE {error:.4g}"
        plots.append(PredictedOverTrue(title, f"target_{column + 1}", true, predicted))
    return plots


def image_grid(name: str, predictions: Predictions, inputs: NDArray[np.uint8]) -> ImageGrid:
    """Returns the first test images, with their predicted classes.

    inputs: [n, C, H, W], one or three channels.
    """
    images = inputs[:GALLERY_IMAGES].astype(np.float64)
    images /= images.max(initial=1.0)  # Data sets differ in the value that means white.
    images = images[:, 0] if images.shape[1] == 1 else images[:, :3].transpose(0, 2, 3, 1)
    right: list[bool] = []
    captions: list[str] = []
    for true, predicted in zip(predictions.true, predictions.predicted, strict=True):
        if len(captions) == len(images):
            break
        right.append(bool(true == predicted))
        guess = predictions.classes[predicted]
        captions.append(guess if right[-1] else f"{guess} (true: {predictions.classes[true]})")
    title = (
        f"{name}\nthe first {len(captions)} of {len(predictions)} test images, {sum(right)} right"
    )
    return ImageGrid(title, images[: len(captions)], tuple(captions), tuple(right))


FigureData = EpochCurves | ConfusionMatrix | RocCurves | PredictedOverTrue | ImageGrid
