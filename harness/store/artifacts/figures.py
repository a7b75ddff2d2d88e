"""Draws the records of `figure_data` with matplotlib, without pyplot's global state.

The colours are those of Okabe and Ito (2008), which people with any colour vision can distinguish.
Lines also differ in their dashes, and right and wrong predictions in their mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle
from math import ceil
from typing import TYPE_CHECKING, Any

from harness.store.artifacts.figure_data import (
    ConfusionMatrix,
    EpochCurves,
    FigureData,
    FigureLine,
    ImageGrid,
    PredictedOverTrue,
    RocCurves,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], "#777777"
CLASSES_WITH_NUMBERS = 25
NAME_CHARACTERS = 28
MARKED_POINTS = 30


def draw(record: FigureData) -> Figure:
    """Draws a record of `figure_data`; `savefig` writes it."""
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
    axes.set_xlabel(record.x_label)
    axes.set_ylabel(plain(record.y_label))
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
            axes.text(
                column,
                row,
                str(record.counts[row, column]),
                ha="center",
                va="center",
                fontsize="small",
                color="white" if shares[row, column] > 0.5 else "black",
            )
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
        mark, colour = ("✓", BLUE) if right else ("✗", ORANGE)
        axes.set_title(f"{mark} {plain(caption, NAME_CHARACTERS)}", fontsize=8, color=colour)
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
    for line, style in zip(lines, _styles(), strict=False):
        marker = "o" if len(line.x) <= MARKED_POINTS else None
        axes.plot(line.x, line.y, label=plain(line.name, 60), marker=marker, markersize=3, **style)
    axes.legend(fontsize="small")


def _styles() -> Iterator[dict[str, Any]]:
    for index, dashes in enumerate(cycle(DASHES)):
        yield {"color": COLOURS[index % len(COLOURS)], "linestyle": dashes}
