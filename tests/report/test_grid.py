"""The heat maps of the whole grid: what a cell is a mean of, and whose."""

from __future__ import annotations

from itertools import product
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.report.blocks import Paragraph
from harness.report.figures import HeatMap, ParallelCoordinates
from harness.report.sections.grid import SECTION, WholeGrid
from harness.report.svg import draw
from harness.store.read.runs import StoredRun
from tests.report_support import section_record
from tests.stored import results, seeds

RATES = (0.01, 0.1)
MODELS = ({"name": "mlp", "hidden": [8]}, {"name": "mlp", "hidden": [16]})


def grid_of(runs: list[StoredRun]) -> WholeGrid:
    record = section_record(results(*runs), "grid")
    assert isinstance(record, WholeGrid)
    return record


def maps_of(grid: WholeGrid) -> dict[str, HeatMap]:
    return {chart.title: chart for chart in SECTION.figures(grid) if isinstance(chart, HeatMap)}


def text_of(grid: WholeGrid) -> str:
    (block,) = SECTION.blocks(grid)
    assert isinstance(block, Paragraph)
    return block.text


@settings(deadline=None, max_examples=15)
@given(
    scores=st.lists(st.sampled_from([0.1, 0.2, 0.3, None]), min_size=64, max_size=64),
    several=st.tuples(st.booleans(), st.booleans()),
)
def test_a_cell_is_the_mean_of_the_best_config_of_its_model(
    scores: list[float | None], several: tuple[bool, bool]
) -> None:
    """Each config has two seeds; None is a seed that diverged, which is worse than any value."""
    models, batch_sizes = MODELS[: 1 + several[0]], (16, 32)[: 1 + several[1]]
    drawn, runs = iter(scores), []
    configs: list[tuple[tuple[str, str, str], int, float | None]] = []
    fields = product(models, ("sgd", "adam"), ("constant", "cosine"), RATES, batch_sizes)
    for model, optimizer, scheduler, lr, batch_size in fields:
        values = [next(drawn), next(drawn)]
        chosen = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "lr": lr}
        runs += seeds(values, batch_size=batch_size, **chosen)
        done = [value for value in values if value is not None]
        hidden = f"mlp(hidden={model['hidden']})" if several[0] else ""
        key = (hidden, f"{optimizer}, {scheduler}", str(lr))
        configs.append((key, values.count(None), fmean(done) if done else None))

    grid = grid_of(runs)

    assert grid.best_over == (("batch_size",) if several[1] else ())
    assert len(grid.cells) == len({key for key, *_ in configs}) == 8 * len(models)
    for cell in grid.cells:
        mine = [of for of in configs if of[0] == (cell.model, cell.row, cell.lr)]
        fewest = min(diverged for _, diverged, _ in mine)
        means = [mean for _, diverged, mean in mine if diverged == fewest and mean is not None]
        assert cell.score == pytest.approx(max(means, default=None))
        assert (cell.n, cell.trials, cell.configs) == (2 - fewest, 2, len(batch_sizes))
    assert len(maps_of(grid)) == len(models)


def test_each_model_has_a_map_that_says_what_a_cell_is() -> None:
    runs: list[StoredRun] = []
    for place, (model, optimizer, lr) in enumerate(product(MODELS, ("sgd", "adam"), RATES)):
        fields: dict[str, Any] = {"model": model, "optimizer": optimizer, "lr": lr}
        runs += seeds([0.5 + place / 100] * (3 if optimizer == "sgd" else 2), **fields)
    plain, varied = grid_of(runs), grid_of([*runs, *seeds([0.1] * 3, batch_size=32, **fields)])

    maps = maps_of(plain)
    assert list(maps) == [
        "val/accuracy by lr: mlp(hidden=[16])",
        "val/accuracy by lr: mlp(hidden=[8])",
    ]
    small = maps["val/accuracy by lr: mlp(hidden=[8])"]
    assert small.values == ((0.52, 0.53), (0.5, 0.51))
    assert small.note == "A cell is the mean over 2 to 3 seeds."
    assert small.details == (("mean of 2 seeds",) * 2, ("mean of 3 seeds",) * 2)
    assert "adam, lr 0.1: 0.53, mean of 2 seeds" in str(draw(small))
    assert text_of(plain).endswith("A cell is the mean over seeds.")
    assert text_of(varied).endswith(
        "A cell is the mean over seeds of the best config with its learning rate and row: "
        "batch_size varies too."
    )
    (big, _) = maps_of(varied).values()
    assert big.details[0][1] == "mean of 2 seeds, the best of 2 configs"


def test_the_framed_cell_is_the_leaderboards_and_one_that_lost_seeds_has_a_star() -> None:
    """One of two seeds diverged, and the other is better than all."""
    runs = [
        *seeds([0.99, None], optimizer="sgd", lr=0.1),
        *seeds([0.7, 0.7], optimizer="sgd", lr=0.01),
        *seeds([0.7, 0.7], optimizer="adam", lr=0.1),
        *seeds([None, None], optimizer="adam", lr=0.01),
    ]
    (chart,) = maps_of(grid_of(runs)).values()

    assert (chart.rows, chart.columns) == (("adam", "sgd"), ("0.01", "0.1"))
    assert chart.best == {(0, 1), (1, 0)}  # a tie
    assert chart.partial == {(1, 1)}
    assert chart.details[1][1] == "mean of 1 of 2 seeds"
    assert chart.note.endswith("A star: some of the seeds have no value.")
    assert chart.table().rows == (("adam", "–", "0.7"), ("sgd", "0.7", "0.99*"))
    svg = str(draw(chart))
    assert svg.count(" best") == 2
    assert ">0.990*</text>" in svg


def test_a_line_says_what_it_is() -> None:
    grid = grid_of([*seeds([0.9, 0.8], lr=0.1), *seeds([0.7, 0.6], lr=0.2)])
    (chart,) = SECTION.figures(grid)
    assert isinstance(chart, ParallelCoordinates)
    assert chart.note == "A line is one config, and its score the mean over its seeds."
    assert chart.note in text_of(grid)
