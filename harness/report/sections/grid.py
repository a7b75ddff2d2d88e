"""The whole grid: learning rate by scheduler as a heat map for each model, and all axes."""

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
MOST_MAPS = 24
LINE = "A line is one config, and its score the mean over its seeds."
CELL_FIELDS = ("lr", "optimizer", "scheduler", "model")
"""Fields that tell cells apart, and maps; whatever else varies is at its best within a cell."""


@dataclass(frozen=True, slots=True)
class HeatMapCell:
    """The best config of a model with this learning rate and row.

    model: empty if all have the same. score: its mean over n seeds; None if there is none.
    trials: all of its trials. rank: its place within the task.
    configs: how many configs it is the best of.
    """

    task: str
    row: str
    lr: str
    score: float | None
    model: str
    n: int
    trials: int
    rank: int | None
    configs: int


@dataclass(frozen=True, slots=True)
class ConfigValues:
    """A config's values on the axes."""

    task: str
    values: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class WholeGrid:
    """cells: by model, learning rate, optimizer and scheduler, as far as these vary.
    best_over: the fields that vary within a cell.
    configs: those with a value, the best first within a task. left_out: configs not listed."""

    metric: str
    direction: str
    axes: tuple[str, ...]
    cells: tuple[HeatMapCell, ...]
    best_over: tuple[str, ...]
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
    cells, best_over = _cells(comparison)
    return WholeGrid(score.metric, score.direction, axes, cells, best_over, tuple(listed), left_out)


def blocks(grid: WholeGrid) -> tuple[Block, ...]:
    sentences = [f"{grid.metric} of every config. {LINE}"]
    if grid.cells:
        sentences.append(_cell_note(grid))
    if grid.left_out:
        sentences.append(f"Not drawn: {plural(grid.left_out, 'config')}.")
    more = max(len(_maps(grid)) - MOST_MAPS, 0)
    if more:
        sentences.append(f"Not drawn: {plural(more, 'heat map')}.")
    return (Paragraph(" ".join(sentences)),)


def figures(grid: WholeGrid) -> tuple[Figure, ...]:
    maps, configs = list(_maps(grid).items())[:MOST_MAPS], by_task(grid.configs)
    drawn: list[Figure] = []
    for task in dict.fromkeys((*(task for (task, _), _ in maps), *configs)):
        drawn += [_heat_map(cells, grid) for (of_task, _), cells in maps if of_task == task]
        if len(configs.get(task, ())) > 1:
            drawn.append(_parallel(configs[task], with_task("All configs", task), grid))
    return tuple(drawn)


def _cells(comparison: Comparison) -> tuple[tuple[HeatMapCell, ...], tuple[str, ...]]:
    """Returns the cells, the best first, and the fields that vary within one of them."""
    fields = tuple(name for name in ("optimizer", "scheduler") if name in comparison.shown)
    if "lr" not in comparison.shown or not fields:
        return (), ()
    groups: dict[tuple[str, str, str, str], list[Config]] = {}
    for config in comparison.configs:  # The best comes first.
        row = ", ".join(config.labels[name] for name in fields)
        model = config.labels["model"] if "model" in comparison.shown else ""
        groups.setdefault((config.task, model, row, config.labels["lr"]), []).append(config)
    rows, rates = {row for _, _, row, _ in groups}, {lr for *_, lr in groups}
    if len(rows) > MOST_ROWS or len(rates) > MOST_COLUMNS:
        return (), ()  # Learning rates drawn at random are all different.
    cells = tuple(
        HeatMapCell(task, row, lr, of[0].mean, model, of[0].n, of[0].trials, of[0].rank, len(of))
        for (task, model, row, lr), of in groups.items()
    )
    other = [name for name in comparison.shown if name not in CELL_FIELDS]
    varied = {name for of in groups.values() for name in other if _varies(of, name)}
    return cells, tuple(name for name in other if name in varied)


def _varies(configs: Sequence[Config], name: str) -> bool:
    return len({config.labels[name] for config in configs}) > 1


def _maps(grid: WholeGrid) -> dict[tuple[str, str], list[HeatMapCell]]:
    """Returns the cells of each task and model."""
    maps: dict[tuple[str, str], list[HeatMapCell]] = {}
    for cell in grid.cells:
        maps.setdefault((cell.task, cell.model), []).append(cell)
    return maps


def _cell_note(grid: WholeGrid, cells: Sequence[HeatMapCell] = ()) -> str:
    """Says what the number in a cell is. cells: of one map, to count their seeds."""
    numbers = {cell.n for cell in cells if cell.score is not None}
    seeds = f"{plural(max(numbers), 'seed')}" if numbers else "seeds"
    seeds = f"{min(numbers)} to {seeds}" if len(numbers) > 1 else seeds
    best = ""
    if grid.best_over:
        best = f" of the best config with its learning rate and row: {', '.join(grid.best_over)}"
        best += " varies too" if len(grid.best_over) == 1 else " vary too"
    stars = " A star: some of the seeds have no value." if any(map(_partial, cells)) else ""
    return f"A cell is the mean over {seeds}{best}.{stars}"


def _partial(cell: HeatMapCell) -> bool:
    """Whether a mean leaves out trials that diverged, failed or are not finished."""
    return cell.score is not None and cell.n < cell.trials


def _heat_map(cells: Sequence[HeatMapCell], grid: WholeGrid) -> HeatMap:
    rates = sorted({cell.lr for cell in cells}, key=natural)
    rows = sorted({cell.row for cell in cells})
    of = {(rows.index(cell.row), rates.index(cell.lr)): cell for cell in cells}
    places = [[of.get((i, j)) for j in range(len(rates))] for i in range(len(rows))]
    best = min((cell.rank for cell in cells if cell.score is not None and cell.rank), default=None)
    named = ", ".join(filter(None, (cells[0].task, cells[0].model)))
    return HeatMap(
        title=with_task(f"{grid.metric} by lr", named),
        x="lr",
        y="optimizer and scheduler",
        columns=tuple(rates),
        rows=tuple(rows),
        values=tuple(tuple(cell.score if cell else None for cell in line) for line in places),
        higher=grid.direction == "max",
        note=_cell_note(grid, cells),
        details=tuple(tuple(_detail(cell) for cell in line) for line in places),
        best=frozenset(
            at for at, cell in of.items() if cell.rank == best and cell.score is not None
        ),
        partial=frozenset(at for at, cell in of.items() if _partial(cell)),
    )


def _detail(cell: HeatMapCell | None) -> str:
    """Returns "mean of 4 of 5 seeds, the best of 3 configs"."""
    if cell is None:
        return "not in the grid"
    seeds = plural(cell.trials, "seed")
    counted = f"mean of {cell.n} of {seeds}" if cell.n < cell.trials else f"mean of {seeds}"
    return counted + (f", the best of {cell.configs} configs" if cell.configs > 1 else "")


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
        note=LINE,
    )


SECTION = Section("grid", "The whole grid", record, blocks, figures, order=80)
