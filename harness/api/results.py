"""Results of an experiment, as tables and as a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from harness.analysis.comparison import Question
from harness.api.comparison import Comparison, one_or_several
from harness.api.errors import told_plainly
from harness.api.tables import curves_table, trials_table
from harness.core.errors import InputError, Problem
from harness.core.paths import EXPERIMENT_SUFFIXES
from harness.experiment.plan_summary import PlanSummary
from harness.report.request import Request
from harness.report.section import build_report, choose_sections
from harness.store.names import PARAM_TRIAL
from harness.store.read.external.frame import results_of_frame
from harness.store.read.results import Results as StoredResults
from harness.store.read.results import read_results
from harness.store.store import Store, open_existing_store

if TYPE_CHECKING:
    from harness.experiment.plan import Plan


@dataclass(frozen=True, repr=False)
class Results:
    """The results of an experiment.

    `Experiment.run` and `harness.results` return them. They are read from the store once, and do
    not change when more trials are trained.
    """

    _stored: StoredResults
    _question: Question

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._stored.experiment

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row for each trial.

        Columns: `trial` and `config` (ids), `outcome` ("done", "diverged", "failed", …), a column
        for each field and option of a trial ("lr", "optimizer.momentum"), one for each metric
        ("best/val/accuracy", "final/test/accuracy", "time/train_s" in seconds), and where and when
        the trial ran. Learning rates are floats, seeds and epochs are integers, options have the
        type of their values, names are text.
        """
        return trials_table(self._asked)

    @told_plainly
    def curves(self, metrics: str | Iterable[str] | None = None) -> pd.DataFrame:
        """Returns the learning curves as a tidy table.

        Args:
            metrics: names of metrics, such as "val/loss" or "lr"; by default all that measure the
                model.

        Returns:
            A row for each measurement, with the columns `trial`, `epoch`, `metric` and `value`.
            `trial` is that of `trials`. Epoch 0 is the untrained model.

        Raises:
            StoreError: the store cannot be read.
        """
        names = [metrics] if isinstance(metrics, str) else metrics
        return curves_table(self._asked, names)

    @told_plainly
    def compare(
        self,
        *,
        metric: str | None = None,
        by: str | Sequence[str] = (),
        where: Mapping[str, Any] | None = None,
        top: int | None = None,
        baseline: str | None = None,
        section: str | Sequence[str] = (),
    ) -> Comparison:
        """Compares the trials, as `python -m harness.compare` does.

        Args:
            metric: ranks on this metric in place of the one that trials are selected on.
            by: compares the best config of each value of this field, or of these fields; by
                default, of each optimizer.
            where: compares only the trials with these values: `{"lr": [0.01, 0.1]}`.
            top: shows the best configs alone; by default all.
            baseline: compares every other contender with this one.
            section: shows this section, or these, in place of the short ones; "all" shows all.

        Returns:
            The report.

        Raises:
            InputError: a field, a value, a metric or a section does not exist.
        """
        question = replace(
            self._question,
            metric=metric or self._question.metric,
            by=one_or_several(by) or self._question.by,
            where=dict(where or {}),
            top=top,
            baseline=baseline,
        )
        names = one_or_several(section)
        # What cannot be answered is an error here, and not where the report is shown.
        build_report(self._stored, question, choose_sections(names or ["verdict"]))
        return Comparison(Request(self.name, self._stored, question), names)

    @property
    def _asked(self) -> StoredResults:
        """The trials that the experiment asks for, and the points of a search."""
        planned, stored = self._question.planned, self._stored.trials
        if planned is None:
            return self._stored
        return replace(self._stored, trials=stored[stored[PARAM_TRIAL].isin(list(planned))])

    def __repr__(self) -> str:
        counts = self.trials["outcome"].value_counts()
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        return f"<Results of {self.name!r}: {outcomes or 'no trials'}>"

    def __len__(self) -> int:
        return len(self.trials)


def of_plan(store: Store, plan: Plan) -> Results:
    """Returns the results of a plan's trials; of a search, all trials of its experiment."""
    summary = PlanSummary.of(plan)
    stored = read_results(store, plan.experiment.name, summary.goal)
    return Results(stored, Question().of_file(summary))


@overload
def results(source: str, *, store: str | PathLike[str] | None = None) -> Results: ...


@overload
def results(
    source: pd.DataFrame,
    *,
    by: str | Sequence[str],
    metric: str,
    task: str | Sequence[str] | None = None,
    seed: str | None = None,
    config: str | Sequence[str] | None = None,
    name: str = "results",
) -> Results: ...


@told_plainly
def results(
    source: str | pd.DataFrame,
    *,
    store: str | PathLike[str] | None = None,
    by: str | Sequence[str] = (),
    metric: str = "",
    task: str | Sequence[str] | None = None,
    seed: str | None = None,
    config: str | Sequence[str] | None = None,
    name: str = "results",
) -> Results:
    """Returns the results of an experiment that was run before, or of runs made elsewhere.

        harness.results("mine").compare()
        harness.results(
            frame, by="optimizer", task="dataset", seed="seed", metric="acc:max"
        ).compare()

    Args:
        source: the experiment's name; or a DataFrame with a row for each run.
        store: of an experiment: the address of its MLflow store ("sqlite:////…/mlflow.db",
            "http://…"); by default the one of the working folder, or `MLFLOW_TRACKING_URI`.
        by: of a DataFrame: the column, or the columns, that compete.
        metric: the column of the score, with the direction that is better: "acc:max", "loss:min".
        task: the columns that say what was learned.
        seed: the column that says which runs had the same seed.
        config: further columns that tell configurations of a contender apart.
        name: the report's title.

    Raises:
        InputError: the store has no such experiment, or does not exist; a column is missing, or
            its values are not what they must be.
        StoreError: the store cannot be read.
    """
    if isinstance(source, pd.DataFrame):
        if store is not None or not by or not metric:
            hint = 'harness.results(frame, by="optimizer", metric="acc:max", seed="seed")'
            raise InputError(
                Problem("results of a DataFrame need by and metric, and no store", hint=hint)
            )
        made = results_of_frame(
            source, by=by, metric=metric, task=task, seed=seed, config=config, name=name
        )
        return Results(made, Question())
    if not isinstance(source, str):
        kind = type(source).__name__
        what = f"results: must be an experiment's name or a DataFrame, given {kind}"
        raise InputError(Problem(what))
    if source.endswith(EXPERIMENT_SUFFIXES):
        hint = f"harness.load({source!r}).results() are those of the trials that a file asks for"
        raise InputError(Problem(f"{source!r} is a file, not an experiment's name", hint=hint))
    if by or metric or task or seed or config:
        what = "by, metric, task, seed and config are for a DataFrame"
        raise InputError(Problem(what, hint=f"harness.results({source!r}).compare(by=…)"))
    opened = open_existing_store(None if store is None else str(store))
    return Results(read_results(opened, source), Question())
