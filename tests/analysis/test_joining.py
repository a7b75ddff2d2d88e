"""Several experiments as one table."""

from __future__ import annotations

import pytest

from harness.analysis.comparison import Question, compare
from harness.analysis.trials import join
from harness.core.errors import InputError
from harness.store.read.results import results_table
from tests.stored import results, seeds, sweep_run


def test_experiments_compete_by_their_names_and_are_paired_by_seed() -> None:
    before, after = results(*seeds([0.8, 0.7, 0.6])), results(*seeds([0.9, 0.8, 0.7]))

    joined = join([before, after], ["before", "after"])
    found = compare(joined, Question(by=("experiment",)))

    assert joined.experiment == "before + after"
    assert len(joined.trials) == 6
    assert [tuned.best.labels["experiment"] for tuned in found.groups] == ["after", "before"]
    assert [config.n for config in found.configs] == [3, 3]


def test_experiments_with_two_metrics_cannot_be_joined() -> None:
    other = results_table("o", [sweep_run(metric="val/loss", direction="min"), *seeds([0.8])])
    assert other is not None
    with pytest.raises(
        InputError, match="selected on one metric: a on val/accuracy, b on val/loss"
    ):
        join([results(*seeds([0.9])), other], ["a", "b"])
