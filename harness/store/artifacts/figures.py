"""A run's figures: what they show, as plain data, and how matplotlib draws it.

The drawing uses none of pyplot's global state. The colours are those of Okabe and Ito (2008), which
people with any colour vision can distinguish. Lines also differ in their dashes, and right and
wrong predictions in their mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.components.base import DataInfo, Task
from harness.components.shared.metrics import median_classes
from harness.core.records import Measured, TestOutputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.floating[Any]]

SPLITS = ("train", "val", "test")
ROC_CURVES = 10
GALLERY_IMAGES = 24
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], "#777777"
CLASSES_WITH_NUMBERS = 25
NAME_CHARACTERS = 28
MARKED_POINTS = 30


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions on the test split.

    true, predicted: [N] class numbers, [N, L] labels (0 or 1), or [N, T] values of a regression.
    probabilities: [N, C] of each class or label, None for a regression. classes: names by number,
    of classes or labels.
    """

    true: NDArray[Any]
    predicted: NDArray[Any]
    probabilities: Floats | None
    classes: tuple[str, ...]
    task: Task = Task.MULTICLASS

    def __len__(self) -> int:
        return len(self.true)

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.right))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the class, or all labels, of each example are predicted: [N]."""
        right: NDArray[np.bool_] = (self.true == self.predicted).reshape(len(self), -1).all(axis=1)
        return right

    @property
    def errors(self) -> Floats:
        """The mean squared error of each example of a regression: [N]."""
        errors: Floats = np.square(self.predicted - self.true).mean(axis=1)
        return errors

    def names(self, number: Any) -> str:
        """Returns the name of a class, or the names of the labels of an example, [L]."""
        if self.task is not Task.MULTILABEL:
            return self.classes[int(number)]
        chosen = [name for name, has in zip(self.classes, number, strict=True) if has]
        return ", ".join(chosen) or "none"


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
    quantity: str
    lines: tuple[FigureLine, ...]


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """counts[i, j]: examples of class i that were predicted as class j."""

    title: str
    classes: tuple[str, ...]
    counts: NDArray[np.int64]


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
    prediction is right; None for an image that is none.
    """

    title: str
    images: Floats
    captions: tuple[str, ...]
    right: tuple[bool | None, ...]


FigureData = EpochCurves | ConfusionMatrix | RocCurves | PredictedOverTrue | ImageGrid


def predictions(info: DataInfo, test_outputs: TestOutputs) -> Predictions:
    """Returns predictions from test outputs: logits of classes or labels, or values of a
    regression."""
    task, names = info.task, info.class_names
    outputs = test_outputs.outputs.float()
    targets = test_outputs.targets.numpy()
    if task is Task.MULTILABEL:
        labels = (outputs > 0).numpy().astype(np.int64)
        shares = outputs.double().sigmoid().numpy()
        return Predictions(targets.astype(np.int64), labels, shares, names, task)
    if not task.is_classification:
        return Predictions(targets, outputs.numpy(), None, names, task)
    probabilities = class_probabilities(outputs.numpy())
    if task is Task.ORDINAL:
        medians = median_classes(outputs.unsqueeze(0))[0].numpy()
        return Predictions(targets, medians, probabilities, names, task)
    # A tie of one logit at 0 goes to class 0, as in the metrics; argmax does the same.
    predicted = probabilities.argmax(axis=1)
    return Predictions(targets, predicted, probabilities, names, task)


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
    curves = {}
    for quantity in quantities:
        lines = []
        for split in SPLITS:
            key = f"{split}/{quantity}"
            points = [(float(p.epoch), p.values[key]) for p in history if key in p.values]
            if points:
                lines.append(FigureLine(split, *zip(*points, strict=True)))
        title = f"{name}\n{quantity} over {history[-1].epoch} epochs"
        curves[quantity] = EpochCurves(title, quantity, tuple(lines))
    return curves


def confusion_matrix(name: str, predictions: Predictions) -> ConfusionMatrix:
    """Returns the counts of each true and predicted class."""
    n = len(predictions.classes)
    pairs = n * predictions.true + predictions.predicted
    counts = np.bincount(pairs, minlength=n * n).reshape(n, n)
    accuracy = f"accuracy {predictions.accuracy:.4f}"
    title = f"{name}\nconfusion on {len(predictions)} test examples, {accuracy}"
    return ConfusionMatrix(title, predictions.classes, counts)


def roc_curves(name: str, predictions: Predictions) -> RocCurves | None:
    """Returns the curve of each class or label against the rest, or of class 1 of two.

    Classes without both positive and negative examples have no curve; returns None if none has one.
    Of many classes, those with the smallest area are shown.
    """
    from sklearn.metrics import auc, roc_curve

    assert predictions.probabilities is not None  # noqa: S101 - a classification has them
    count = len(predictions.classes)
    of_labels = predictions.task is Task.MULTILABEL
    numbers: Iterable[int] = range(count) if count > 2 or of_labels else (1,)
    drawn = []
    for number in numbers:
        true = predictions.true
        positive = true[:, number] == 1 if of_labels else true == number
        if 0 < positive.sum() < len(positive):
            scores = predictions.probabilities[:, number]
            x, y, _ = roc_curve(positive, scores, drop_intermediate=False)
            drawn.append((float(auc(x, y)), predictions.classes[number], x, y))
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
    images: Floats = inputs[:GALLERY_IMAGES].astype(np.float64)
    # Data sets differ in the values that mean white and black.
    low = images.min(initial=0.0)
    images = (images - low) / (images.max(initial=1.0) - low)
    images = image_pixels(images)
    images = images[: len(predictions)]
    true, predicted = predictions.true[: len(images)], predictions.predicted[: len(images)]
    right = tuple(predictions.right[: len(images)].tolist())
    names = predictions.names
    captions = tuple(
        names(guess) if is_right else f"{names(guess)} (true: {names(label)})"
        for label, guess, is_right in zip(true, predicted, right, strict=True)
    )
    title = f"{name}\nthe first {len(images)} of {len(predictions)} test images, {sum(right)} right"
    return ImageGrid(title, images, captions, right)


def image_pixels(images: Floats) -> Floats:
    """Returns images […, C, H, W] as they are drawn: […, H, W, 3], or […, H, W] of the first
    channel where there are fewer than three."""
    if images.shape[-3] < 3:
        return images[..., 0, :, :]
    return np.moveaxis(images[..., :3, :, :], -3, -1)


def reconstructions(name: str, outputs: TestOutputs, shape: tuple[int, ...]) -> ImageGrid:
    """Returns the first test images, as the model gets them, each with its reconstruction.

    shape: (channels, height, width).
    """
    count = min(GALLERY_IMAGES // 2, len(outputs.targets))
    pairs = np.stack([outputs.targets[:count].numpy(), outputs.outputs[:count].numpy()], axis=1)
    images: Floats = pairs.reshape(2 * count, *shape).astype(np.float64)
    low, high = images[::2].min(), images[::2].max()
    images = ((images - low) / max(high - low, 1e-9)).clip(0, 1)
    images = image_pixels(images)
    title = f"{name}\nthe first {count} test images, each beside its reconstruction"
    return ImageGrid(title, images, ("input", "output") * count, (None,) * (2 * count))


def draw(record: FigureData) -> Figure:
    """Draws what a figure shows; `savefig` writes it."""
    match record:
        case EpochCurves():
            return _curves(record)
        case ConfusionMatrix():
            return _confusion_matrix(record)
        case RocCurves():
            return _roc(record)
        case PredictedOverTrue():
            return _predicted_over_true(record)
        case ImageGrid():
            return _image_grid(record)


def plain(text: str, characters: int | None = None) -> str:
    """Returns text that matplotlib shows as it is, never as mathematics, cut to `characters`."""
    if characters is not None and len(text) > characters:
        text = text[: characters - 1] + "…"
    return text.replace("$", r"\$")


def _curves(record: EpochCurves) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(record.title)
    _lines(axes, record.lines)
    axes.set_xlabel("epoch")
    axes.set_ylabel(plain(record.quantity))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _roc(record: RocCurves) -> Figure:
    figure, axes = _figure(record.title, size=(6.4, 6.0))
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1, label="chance (0.5)")
    _lines(axes, record.lines)
    axes.set_aspect("equal")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.legend(title="class (area under the curve)", fontsize="small", loc="lower right")
    return figure


def _confusion_matrix(record: ConfusionMatrix) -> Figure:
    n = len(record.classes)
    side = min(max(4.8, 0.55 * n + 2.5), 14)
    figure, axes = _figure(record.title, size=(side + 0.8, side))
    rows = record.counts.sum(axis=1, keepdims=True)
    shares = record.counts / rows.clip(min=1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    axes.grid(visible=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if n <= CLASSES_WITH_NUMBERS:
        names = [plain(name, NAME_CHARACTERS) for name in record.classes]
        axes.set_xticks(range(n), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(n), names)
        for row, column in ((i, j) for i in range(n) for j in range(n) if record.counts[i, j]):
            count = str(record.counts[row, column])
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, count, ha="center", va="center", size="small", color=colour)
    return figure


def _predicted_over_true(record: PredictedOverTrue) -> Figure:
    figure, axes = _figure(record.title, size=(6.0, 5.6))
    low = float(min(record.true.min(), record.predicted.min()))
    high = float(max(record.true.max(), record.predicted.max()))
    axes.plot((low, high), (low, high), color=GREY, linewidth=1, label="predicted = true")
    axes.scatter(record.true, record.predicted, s=8, alpha=0.4, color=BLUE, edgecolors="none")
    axes.set_xlabel("true value")
    axes.set_ylabel("predicted value")
    axes.legend(fontsize="small")
    return figure


def _image_grid(record: ImageGrid) -> Figure:
    from matplotlib.figure import Figure

    columns = min(8, len(record.images))
    rows = ceil(len(record.images) / columns)
    width, height = 1.35 * columns + 0.2, 1.55 * rows + 0.8
    # Placed by hand: a layout of so many axes takes longer than drawing them.
    figure = Figure(figsize=(max(width, 4.0), height))
    figure.suptitle(plain(record.title), fontsize="medium")
    edges = {"left": 0.02, "right": 0.98, "bottom": 0.02, "top": 1 - 0.85 / height}
    grid = list(figure.subplots(rows, columns, squeeze=False, gridspec_kw=edges).flat)
    for axes in grid:
        axes.axis("off")
    shown = zip(grid, record.images, record.captions, record.right, strict=False)
    for axes, image, caption, right in shown:
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        mark, colour = {True: ("✓ ", BLUE), False: ("✗ ", ORANGE), None: ("", "black")}[right]
        axes.set_title(f"{mark}{plain(caption, NAME_CHARACTERS)}", fontsize=8, color=colour)
    return figure


def _figure(title: str, size: tuple[float, float] = (7.2, 4.4)) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(plain(title), fontsize="medium")
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _lines(axes: Axes, lines: Iterable[FigureLine]) -> None:
    axes.set_prop_cycle(color=COLOURS * len(DASHES), linestyle=DASHES * len(COLOURS))
    for line in lines:
        marker = "o" if len(line.x) <= MARKED_POINTS else None
        axes.plot(line.x, line.y, label=plain(line.name, 60), marker=marker, markersize=3)
    axes.legend(fontsize="small")
