"""The whole grid at a glance: learning rate by scheduler, and all axes side by side."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.configs import Config
from harness.analysis.filters import natural
from harness.core.text import plural
from harness.report.blocks import Block, Paragraph
from harness.report.figures import Figure, HeatMap, Parallel, ParallelAxis
from harness.report.section import Section

MOST_LINES = 600
MOST_AXES = 8
MOST_ROWS = 24
MOST_COLUMNS = 16


@dataclass(frozen=True, slots=True)
class Cell:
    """score: of the best config with this learning rate and row; None where nothing finished."""

    task: str
    row: str
    lr: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A config's values on the axes."""

    task: str
    values: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Grid:
    """cells: by learning rate and, as far as they vary, optimizer and scheduler. configs: with a
    value, the best first within a task. left_out: configs that are not listed."""

    metric: str
    direction: str
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    configs: tuple[Coordinates, ...]
    left_out: int


def record(comparison: Comparison) -> Grid | None:
    axes = comparison.shown[:MOST_AXES]
    if not axes or len(comparison.configs) < 2:
        return None
    listed: list[Coordinates] = []
    left_out = 0
    for task in comparison.tasks:
        of_task = [c for c in comparison.configs if c.task == task and c.mean is not None]
        every = max(1, -(-len(of_task) // MOST_LINES))
        # The best all the same: what is thinned out is the rest.
        kept = [
            c for place, c in enumerate(of_task) if place < MOST_LINES // 10 or place % every == 0
        ]
        left_out += len(of_task) - len(kept)
        listed += [
            Coordinates(task, tuple(c.labels[name] for name in axes), c.mean)
            for c in kept
            if c.mean is not None
        ]
    score = comparison.score
    return Grid(score.metric, score.direction, axes, _cells(comparison), tuple(listed), left_out)


def blocks(grid: Grid) -> tuple[Block, ...]:
    told = f"{grid.metric} of every config; a line or cell is the mean over seeds."
    if grid.left_out:
        told += f" Thinned out: {plural(grid.left_out, 'config')}."
    return (Paragraph(told),)


def figures(grid: Grid) -> tuple[Figure, ...]:
    tasks = dict.fromkeys([cell.task for cell in grid.cells] + [c.task for c in grid.configs])
    made: list[Figure] = []
    for task in tasks:
        of = f": {task}" if task else ""
        cells = [cell for cell in grid.cells if cell.task == task]
        if cells:
            made.append(_heat(cells, f"{grid.metric} by lr{of}", grid))
        lines = [config for config in grid.configs if config.task == task]
        if len(lines) > 1:
            made.append(_parallel(lines, f"All configs{of}", grid))
    return tuple(made)


def _cells(comparison: Comparison) -> tuple[Cell, ...]:
    rows = tuple(name for name in ("optimizer", "scheduler") if name in comparison.shown)
    if "lr" not in comparison.shown or not rows:
        return ()
    best: dict[tuple[str, str, str], Config] = {}
    for config in comparison.configs:  # The best comes first.
        row = ", ".join(config.labels[name] for name in rows)
        best.setdefault((config.task, row, config.labels["lr"]), config)
    rows_there, rates = {row for _, row, _ in best}, {lr for _, _, lr in best}
    if len(rows_there) > MOST_ROWS or len(rates) > MOST_COLUMNS:
        return ()  # Of rates drawn at random no two configs share one.
    return tuple(Cell(task, row, lr, config.mean) for (task, row, lr), config in best.items())


def _heat(cells: list[Cell], title: str, grid: Grid) -> HeatMap:
    columns = sorted({cell.lr for cell in cells}, key=natural)
    rows = sorted({cell.row for cell in cells})
    values = {(cell.row, cell.lr): cell.score for cell in cells}
    return HeatMap(
        title=title,
        x="lr",
        y="optimizer and scheduler",
        columns=tuple(columns),
        rows=tuple(rows),
        values=tuple(tuple(values.get((row, lr)) for lr in columns) for row in rows),
        higher=grid.direction == "max",
    )


def _parallel(configs: list[Coordinates], title: str, grid: Grid) -> Parallel:
    axes, places = [], []
    for place, name in enumerate(grid.axes):
        values = sorted({config.values[place] for config in configs}, key=natural)
        if len(values) < 2:
            continue
        at = {value: i / (len(values) - 1) for i, value in enumerate(values)}
        axes.append(ParallelAxis(name, tuple(at.items())))
        places.append((place, at))
    scores = [config.score for config in configs]
    low, high = min(scores), max(scores)
    span = high - low or 1.0
    axes.append(ParallelAxis(grid.metric, ((f"{low:.4g}", 0.0), (f"{high:.4g}", 1.0))))
    ordered = list(reversed(configs))
    return Parallel(
        title=title,
        axes=tuple(axes),
        lines=tuple(
            (*(at[config.values[place]] for place, at in places), (config.score - low) / span)
            for config in ordered
        ),
        texts=tuple(
            (*(config.values[place] for place, _ in places), f"{config.score:.6g}")
            for config in ordered
        ),
        left_out=grid.left_out,
    )


SECTION = Section(
    name="grid", title="The whole grid", place=80, record=record, blocks=blocks, figures=figures
)
