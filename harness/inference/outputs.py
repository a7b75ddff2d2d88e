"""What is written: a table of predictions, and a figure of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import HarnessError
from harness.core.text import format_csv
from harness.inference.model import Trained

if TYPE_CHECKING:
    from torch import Tensor

    from harness.store.artifacts.figure_data import Predictions
    from harness.training.batch_sources import BatchSource

GALLERY = 32
"""Images in the gallery."""
LINES = 20
"""Predictions of files that are printed; all are written."""
AGREE = 1e-3
"""How far a measure may lie from the one at training: another device rounds otherwise."""


def write_test(folder: Path, trained: Trained) -> Iterator[str]:
    """Predict the test split, write `predictions.csv` and a figure, and yield what to tell."""
    from harness.training.evaluation import compute_metrics

    scores = trained.test()
    parts = trained.parts
    measures = compute_metrics("test", scores, parts.all_metrics)
    yield f"test split: {len(scores.targets)} examples"
    yield from _measures(measures, trained)
    found = _predictions(trained, scores.outputs, scores.targets)
    _make(folder)
    from harness.store.artifacts.trial_files import write_predictions

    write_predictions(folder / "predictions.csv", found)
    yield f"predictions: {folder / 'predictions.csv'}"
    if trained.raw.info.is_image:
        yield f"gallery:     {_gallery(folder, trained, found)}"
    elif not trained.raw.info.task.is_classification:
        yield from (f"figure:      {path}" for path in _scatters(folder, trained, found))


def write_files(folder: Path, trained: Trained, paths: Sequence[Path]) -> Iterator[str]:
    """Predict files, write `predictions.csv` and for images a gallery, and yield what to tell."""
    from harness.inference.inputs import read

    raw = trained.raw
    given = read(paths, raw)
    images = given.inputs.clone() if raw.info.is_image else None
    found = _predictions(trained, trained.on(given.inputs), None)
    header, rows = _file_rows(given.names, found)
    for row in rows[:LINES]:
        yield f"{row[0]}: {_told(row[1:], found)}"
    if len(rows) > LINES:
        yield f"… and {len(rows) - LINES} more"
    _make(folder)
    (folder / "predictions.csv").write_text(format_csv(header, rows), encoding="utf-8")
    yield f"predictions: {folder / 'predictions.csv'}"
    if images is not None:
        shown = [(images[i].numpy(), f"{row[1]}", None) for i, row in enumerate(rows[:GALLERY])]
        yield f"gallery:     {_draw(folder, trained.chosen.name, shown)}"


def _measures(measures: dict[str, float], trained: Trained) -> Iterator[str]:
    """Each measure, with the one stored at training where it is not the same."""
    width = max(map(len, measures))
    stored = trained.chosen.final
    differ = False
    for name, value in measures.items():
        before = stored.get(name)
        same = before is None or abs(value - before) <= AGREE * max(1.0, abs(before))
        differ |= not same
        yield f"  {name:<{width}}  {value:.4f}" + ("" if same else f"  (at training {before:.4f})")
    if differ and not trained.same_data:
        yield "note: the data found here is not what this run was trained on"


def _predictions(trained: Trained, outputs: Tensor, targets: Tensor | None) -> Predictions:
    """targets: None where they are not known; the record then holds zeros."""
    import torch

    from harness.core.records import TestOutputs
    from harness.store.artifacts.figure_data import predictions

    if targets is None:
        info = trained.raw.info
        shape = (len(outputs),) if info.classes else (len(outputs), info.targets)
        targets = torch.zeros(shape, dtype=torch.int64 if info.classes else torch.float32)
    nothing = torch.empty(0)
    return predictions(
        trained.raw.info, TestOutputs({}, outputs.cpu(), targets.cpu(), inputs=nothing)
    )


def _file_rows(
    names: Sequence[str], found: Predictions
) -> tuple[list[str], list[tuple[object, ...]]]:
    if found.probabilities is None:
        targets = found.predicted.shape[1]
        header = ["predicted"] if targets == 1 else [f"predicted_{i + 1}" for i in range(targets)]
        values = found.predicted.tolist()
        return ["input", *header], [(name, *some) for name, some in zip(names, values, strict=True)]
    chosen = zip(found.predicted.tolist(), found.probabilities.max(axis=1).tolist(), strict=True)
    rows: list[tuple[object, ...]] = [
        (name, found.classes[number], round(probability, 6))
        for name, (number, probability) in zip(names, chosen, strict=True)
    ]
    return ["input", "predicted", "probability"], rows


def _told(cells: Sequence[Any], found: Predictions) -> str:
    if found.probabilities is None:
        return ", ".join(f"{value:.6g}" for value in cells)
    return f"{cells[0]} ({cells[1]:.3f})"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(f"cannot write to {folder}: {error.strerror}") from error


def _gallery(folder: Path, trained: Trained, found: Predictions) -> Path:
    """Test images with what they were taken for, mistakes first."""
    right = found.true == found.predicted
    # False before True, in the split's order among equals.
    order = right.argsort(kind="stable")[:GALLERY].tolist()
    images = _stored(trained.parts.data.test, order)
    shown = []
    for place, image in zip(order, images, strict=True):
        told = found.classes[found.predicted[place]]
        caption = told if right[place] else f"{told} (true: {found.classes[found.true[place]]})"
        shown.append((image.numpy(), caption, bool(right[place])))
    wrong = int((~right).sum())
    title = f"{trained.chosen.name}\n{wrong} mistakes on {len(found)} test images, mistakes first"
    return _draw(folder, title, shown)


def _stored(source: BatchSource, places: list[int]) -> Tensor:
    """Some inputs of a split as stored, [n, C, H, W]."""
    import torch

    from harness.training.batch_sources import InMemorySource, StreamingSource

    if isinstance(source, InMemorySource):
        return source.stored[places].cpu()
    assert isinstance(source, StreamingSource)  # noqa: S101 - there are two kinds
    return torch.stack([source.inputs[place] for place in places])


def _draw(folder: Path, title: str, shown: Sequence[tuple[Any, str, bool | None]]) -> Path:
    """shown: image [C, H, W], caption, and whether it is right, None where that is not known."""
    from math import ceil

    from matplotlib.figure import Figure

    from harness.store.artifacts.figures import BLUE, NAME_CHARACTERS, ORANGE, plain

    columns = min(8, len(shown))
    rows = ceil(len(shown) / columns)
    figure = Figure(figsize=(1.35 * columns + 1, 1.6 * rows + 0.9), layout="constrained")
    figure.suptitle(plain(title), fontsize="medium")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    marks = {True: ("✓ ", BLUE), False: ("✗ ", ORANGE), None: ("", "black")}
    for axes in grid:
        axes.axis("off")
    for axes, (image, caption, right) in zip(grid, shown, strict=False):
        mark, colour = marks[right]
        axes.imshow(_pixels(image), cmap="gray", vmin=0, vmax=1)
        axes.set_title(mark + plain(caption, NAME_CHARACTERS), fontsize=8, color=colour)
    path = folder / "gallery.png"
    figure.savefig(path, dpi=120)
    return path


def _pixels(image: Any) -> Any:
    """[C, H, W] of any range → [H, W] or [H, W, 3] in [0, 1]."""
    scaled = image.astype("float64") / max(float(image.max()), 1.0)
    return scaled[0] if len(scaled) == 1 else scaled[:3].transpose(1, 2, 0)


def _scatters(folder: Path, trained: Trained, found: Predictions) -> Iterator[Path]:
    """Predicted over true, a figure for each target."""
    from harness.store.artifacts.figure_data import predicted_over_true
    from harness.store.artifacts.figures import draw

    for scatter in predicted_over_true(trained.chosen.name, found):
        path = folder / f"predicted_over_true_{scatter.name}.png"
        draw(scatter).savefig(path, dpi=120)
        yield path
