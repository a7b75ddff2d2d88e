"""The whole grid: learning rate by scheduler as a heat map, and all axes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.configs import Config
from harness.analysis.trials import natural
from harness.core.text import plural
from harness.report.blocks import Block, Paragraph, by_task, with_task
from harness.report.figures import Figure, HeatMap, ParallelAxis, ParallelCoordinates
from harness.report.section import Section

MOST_LINES = 600
MOST_AXES = 8
MOST_ROWS = 24
MOST_COLUMNS = 16


@dataclass(frozen=True, slots=True)
class HeatMapCell:
    """score: of the best config with this learning rate and row; None if no trial finished."""

    task: str
    row: str
    lr: str
    score: float | None


@dataclass(frozen=True, slots=True)
class ConfigValues:
    """A config's values on the axes."""

    task: str
    values: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class WholeGrid:
    """cells: by learning rate and by optimizer and scheduler, as far as these vary.
    configs: those with a value, the best first within a task. left_out: configs not listed."""

    metric: str
    direction: str
    axes: tuple[str, ...]
    cells: tuple[HeatMapCell, ...]
    configs: tuple[ConfigValues, ...]
    left_out: int


def record(comparison: Comparison) -> WholeGrid | None:
    axes = comparison.shown[:MOST_AXES]
    if not axes or len(comparison.configs) < 2:
        return None
    with_value = [config for config in comparison.configs if config.mean is not None]
    listed: list[ConfigValues] = []
    for task, configs in by_task(with_value).items():
        every = max(1, -(-len(configs) // MOST_LINES))
        listed += [
            ConfigValues(task, tuple(config.labels[name] for name in axes), config.mean)
            for place, config in enumerate(configs)
            # All of the best configs, and evenly spaced others.
            if (place < MOST_LINES // 10 or place % every == 0) and config.mean is not None
        ]
    score, left_out = comparison.score, len(with_value) - len(listed)
    return WholeGrid(
        score.metric, score.direction, axes, _cells(comparison), tuple(listed), left_out
    )


def blocks(grid: WholeGrid) -> tuple[Block, ...]:
    text = f"{grid.metric} of every config; a line or cell is the mean over seeds."
    if grid.left_out:
        text += f" Not drawn: {plural(grid.left_out, 'config')}."
    return (Paragraph(text),)


def figures(grid: WholeGrid) -> tuple[Figure, ...]:
    cells, configs = by_task(grid.cells), by_task(grid.configs)
    drawn: list[Figure] = []
    for task in dict.fromkeys((*cells, *configs)):
        if task in cells:
            drawn.append(_heat_map(cells[task], with_task(f"{grid.metric} by lr", task), grid))
        if len(configs.get(task, ())) > 1:
            drawn.append(_parallel(configs[task], with_task("All configs", task), grid))
    return tuple(drawn)


def _cells(comparison: Comparison) -> tuple[HeatMapCell, ...]:
    fields = tuple(name for name in ("optimizer", "scheduler") if name in comparison.shown)
    if "lr" not in comparison.shown or not fields:
        return ()
    best: dict[tuple[str, str, str], Config] = {}
    for config in comparison.configs:  # The best comes first.
        row = ", ".join(config.labels[name] for name in fields)
        best.setdefault((config.task, row, config.labels["lr"]), config)
    rows, rates = {row for _, row, _ in best}, {lr for _, _, lr in best}
    if len(rows) > MOST_ROWS or len(rates) > MOST_COLUMNS:
        return ()  # Learning rates drawn at random are all different.
    return tuple(HeatMapCell(*key, config.mean) for key, config in best.items())


def _heat_map(cells: Sequence[HeatMapCell], title: str, grid: WholeGrid) -> HeatMap:
    rates = sorted({cell.lr for cell in cells}, key=natural)
    rows = sorted({cell.row for cell in cells})
    values = {(cell.row, cell.lr): cell.score for cell in cells}
    return HeatMap(
        title=title,
        x="lr",
        y="optimizer and scheduler",
        columns=tuple(rates),
        rows=tuple(rows),
        values=tuple(tuple(values.get((row, lr)) for lr in rates) for row in rows),
        higher=grid.direction == "max",
    )


def _parallel(configs: Sequence[ConfigValues], title: str, grid: WholeGrid) -> ParallelCoordinates:
    axes, positions, texts = [], [], []
    for place, name in enumerate(grid.axes):
        column = [config.values[place] for config in configs]
        values = sorted(set(column), key=natural)
        if len(values) > 1:
            position = {value: i / (len(values) - 1) for i, value in enumerate(values)}
            axes.append(ParallelAxis(name, tuple(position.items())))
            positions.append([position[value] for value in column])
            texts.append(column)
    scores = [config.score for config in configs]
    low, high = min(scores), max(scores)
    axes.append(ParallelAxis(grid.metric, ((f"{low:.4g}", 0.0), (f"{high:.4g}", 1.0))))
    positions.append([(score - low) / ((high - low) or 1.0) for score in scores])
    texts.append([f"{score:.6g}" for score in scores])
    return ParallelCoordinates(
        title=title,
        axes=tuple(axes),
        lines=tuple(zip(*positions, strict=True))[::-1],
        texts=tuple(zip(*texts, strict=True))[::-1],
    )


SECTION = Section("grid", "The whole grid", record, blocks, figures, order=80)
