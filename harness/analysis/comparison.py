"""What is asked of an experiment's results, and the answer that every report section reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from harness.analysis.configs import OUTCOMES, STUDY, Config, label_configs, summarise, varying
from harness.analysis.expectations import PublishedFigure, check
from harness.analysis.ranking import ConfigGroup, Score, best_of_each, choose_score, rank
from harness.analysis.resolution import resolution_of, resolve_table
from harness.analysis.trials import Condition, matching, natural, require_matching
from harness.analysis.versions import Version, separate_versions
from harness.core.errors import InputError, require_known
from harness.experiment.plan import Plan
from harness.experiment.plan_summary import PlanSummary
from harness.store.names import PARAM_CONFIG, PARAM_TRIAL, short_checksum
from harness.store.read.external.roles import External
from harness.store.read.results import Results
from harness.store.read.run_details import Details

TASK = "dataset"
"""Trials of different data sets, or versions of one, are never ranked against each other."""

UNSEEDED = "the trials cannot be paired, as their seeds are not known"
"""Why nothing is claimed of results without seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of an experiment's results.

    metric: ranks configs in place of the selection metric (see `ranking.choose_score`).
    where: compares only these trials.
    by: compares the best config of each combination of these fields; by default, of each training
        loop and optimizer.
    top: the most rows of a table; None for all.
    planned: the trial ids of the experiment's file; other trials in the store are left out. None
        compares all trials.
    seeds: how many trials the experiment's file asks for, by config id; None if it is not known.
    tuning: whether to leave the points that a search tried out of the ranking. The search chose
        among them by the same seeds that they were trained on.
    expect: published figures, in place of those of the newest sweep.
    baseline: the contender that all others are compared with; by default all pairs are compared.
    data: the checksum of its data set by the id of each of the file's trials; None without a file.
    """

    metric: str | None = None
    where: Condition = field(default_factory=dict)
    by: tuple[str, ...] = ()
    top: int | None = None
    planned: Collection[str] | None = None
    seeds: Mapping[str, int] | None = None
    tuning: bool = True
    expect: Sequence[Mapping[str, Any]] | None = None
    baseline: str | None = None
    data: Mapping[str, str] | None = None

    def of_plan(self, plan: Plan | PlanSummary) -> Question:
        """Returns the same question, asked of the trials and published figures of a file. For a
        search, the question also includes the points that it tried."""
        summary = plan if isinstance(plan, PlanSummary) else PlanSummary.of(plan)
        return replace(
            self,
            planned=set(summary.data),
            seeds=summary.seeds,
            tuning=summary.is_search,
            expect=tuple(asdict(figure) for figure in summary.expect),
            data={trial: short_checksum(sha256) for trial, sha256 in summary.data.items()},
        )

    def of_file(self, summary: PlanSummary) -> Question:
        """Returns the question of `of_plan` or, for a search, of all trials of its experiment: a
        search's file does not list the points that it tries, nor their winners."""
        question = self.of_plan(summary)
        return replace(question, planned=None, seeds=None) if summary.is_search else question


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the sections of a report are made from.

    trials: the trials that are compared, a row each: `run_id`, `run_name`, `outcome`, `config_id`,
        `seed` and the other fields as text, `exclusive`, `device_name`, and each scalar by its name
        in MLflow, its last value (`core.metrics.TRAIN_SECONDS`, "best/val/accuracy"); all columns
        are described at `Results.trials`. The score's columns are there even if no trial has it.
    configs: all configs, ranked within each task.
    shown: the fields that differ among configs, without the data set; empty for a single config.
    groups: the best config of each combination of `by`; by default, of each model and optimizer.
    contenders: what the verdict speaks of: the best config of each combination of `contend_by`. By
        default, of each training loop and optimizer, or of each config if these are all the same.
        For a search, of each study: its winner may have any options.
    expectations: published figures, checked on all trials of the current data, whatever `where`
        is.
    versions: of data sets and weights of which the store has several (see `analysis.versions`).
    unplanned: how many trials in the store the file does not ask for; they are left out.
    missing: how many trials of the file are not in the store.
    filtered: how many trials do not meet `where`.
    fields, details, external: as in `Results`.
    target: the value of the selection metric to be reached.
    tuning: the comparison of the points that a search chose by; None if there are none.
    """

    experiment: str
    question: Question
    score: Score
    trials: pd.DataFrame
    configs: tuple[Config, ...]
    tasks: tuple[str, ...]
    shown: tuple[str, ...]
    by: tuple[str, ...]
    groups: tuple[ConfigGroup, ...]
    contenders: tuple[ConfigGroup, ...]
    contend_by: tuple[str, ...]
    expectations: tuple[PublishedFigure, ...]
    unplanned: int
    missing: int
    filtered: int
    superseded: int
    fields: tuple[str, ...]
    target: float | None
    details: Details | None
    versions: tuple[Version, ...]
    external: External | None = None
    tuning: Comparison | None = None

    @property
    def step(self) -> str:
        """What the values of a curve belong to: another program's steps may be no epochs."""
        return "epoch" if self.external is None else "step"

    @property
    def unseeded(self) -> bool:
        """Whether it is not known which trials had the same seed."""
        return self.external is not None and not self.external.seeded

    @property
    def exploration(self) -> Comparison:
        """The comparison that covers the search space: of a search's points, else of the trials."""
        return self.tuning or self

    def generator(self, purpose: str) -> np.random.Generator:
        """Returns a generator seeded by its purpose alone: an interval must not depend on which
        other sections are made."""
        return np.random.default_rng(crc32(purpose.encode()))

    def outcomes(self) -> dict[str, int]:
        """Returns how many trials ended in each way."""
        return {outcome: int((self.trials["outcome"] == outcome).sum()) for outcome in OUTCOMES}


def compare(results: Results, question: Question) -> Comparison:
    """Answers a question. Raises InputError for a field, value or metric that no trial has."""
    results = replace(results, trials=resolve_table(results.trials, results.scalars))
    if results.external is not None:
        question = _in_fields(question, results.external.fields)
    planned, tried, *_ = _split_trials(results, question)
    compared = results.trials.index.isin([*planned.index, *tried.index])
    found = separate_versions(
        results.trials,
        results.fields,
        pd.Series(compared, results.trials.index),
        question.data,
    )
    separated = replace(results, trials=found.trials)
    return _compare(separated, question, found.current, found.versions)


def _in_fields(question: Question, fields: Mapping[str, str]) -> Question:
    """Returns the question with fields in place of another program's columns."""
    by = tuple(fields.get(name, name) for name in question.by)
    return replace(
        question, by=by, where={fields.get(name, name): of for name, of in question.where.items()}
    )


def _compare(
    results: Results,
    question: Question,
    current: pd.Series[bool],
    versions: tuple[Version, ...] = (),
) -> Comparison:
    planned, tried, unplanned, missing = _split_trials(results, question)
    trials = require_matching(planned, results.fields, question.where)
    score = _score(results, question.metric)
    trials = _with_columns(trials, [score.column, score.test_column])
    configs, varied = _ranked(trials, results.fields, score)
    require_known(question.by, configs[0].labels, "--by: no field")
    external = results.external
    by = question.by or (external.by if external else ())
    if not by and len({config.labels.get(STUDY) for config in configs}) > 1:
        by = (STUDY,)
    methods = tuple(name for name in ("training_loop", "optimizer") if name in varied)
    contend_by = by or methods or varied
    by = by or tuple(name for name in ("model", "training_loop", "optimizer") if name in varied)
    expect = results.expect if question.expect is None else question.expect
    return Comparison(
        experiment=results.experiment,
        question=question,
        score=score,
        trials=trials,
        configs=configs,
        tasks=tuple(dict.fromkeys(config.task for config in configs)),
        shown=tuple(name for name in varied if name != TASK),
        by=by,
        groups=best_of_each(configs, by),
        contenders=best_of_each(configs, contend_by),
        contend_by=contend_by,
        expectations=_expectations(
            expect, planned[current[planned.index]], results, question.seeds
        ),
        unplanned=unplanned,
        missing=missing,
        filtered=len(planned) - len(trials),
        superseded=results.superseded,
        fields=results.fields,
        target=results.target,
        details=results.details,
        versions=versions,
        external=external,
        tuning=_tuning(results, tried, question, current),
    )


def _score(results: Results, metric: str | None = None) -> Score:
    epoch = results.external.epoch if results.external else "best"
    return choose_score(results.scalars, results.metric, results.direction, metric, epoch)


def _with_columns(trials: pd.DataFrame, names: Sequence[str | None]) -> pd.DataFrame:
    """Returns the trials with these columns, NaN where no trial has the scalar."""
    lacking = [name for name in names if name is not None and name not in trials]
    return trials.assign(**dict.fromkeys(lacking, np.nan)) if lacking else trials


def _split_trials(
    results: Results, question: Question
) -> tuple[pd.DataFrame, pd.DataFrame, int, int]:
    """Returns the trials to compare, a search's points, how many trials are neither, and how many
    planned trials are missing."""
    points = results.trials["tuning"].astype(bool) & question.tuning
    if question.planned is None:
        if points.all():
            points[:] = False
        return results.trials[~points], results.trials[points], 0, 0
    wanted = set(question.planned)
    is_planned = results.trials[PARAM_TRIAL].isin(wanted)
    planned, tried = results.trials[is_planned], results.trials[points & ~is_planned]
    if planned.empty:
        same_data = results.trials["data"].isin(list((question.data or {}).values())).any()
        raise InputError(
            f"none of the {len(wanted)} trials of the file is in the store; experiment "
            f"{results.experiment!r} holds {len(results.trials)} others"
            f"{'' if same_data or not question.data else ', none on the data as they are now'}: "
            "run the sweep, or give the experiment's name in place of its file"
        )
    others = len(results.trials) - len(planned) - len(tried)
    return planned, tried, others, len(wanted) - len(planned)


def _tuning(
    results: Results, tried: pd.DataFrame, question: Question, current: pd.Series[bool]
) -> Comparison | None:
    """Compares a search's points among themselves."""
    selected = matching(tried, question.where)
    if selected.empty:
        return None
    of_points = replace(question, planned=None, tuning=False, expect=(), baseline=None)
    return _compare(replace(results, trials=selected), of_points, current)


def _ranked(
    trials: pd.DataFrame, fields: Sequence[str], score: Score
) -> tuple[tuple[Config, ...], tuple[str, ...]]:
    """Returns the ranked configs, and the fields that differ among them."""
    labels = label_configs(trials, fields)
    varied = varying(labels, TASK)
    study_of = trials.drop_duplicates(PARAM_CONFIG).set_index(PARAM_CONFIG)["study"]
    if (study_of != "").all():
        labels[STUDY] = study_of.reindex(labels.index)
    tasks: dict[Any, str] = labels[TASK].to_dict() if TASK in varied else {}
    configs = summarise(trials, score.column, score.test_column, labels, tasks)
    # Equal configs stand in the order of their labels, in whatever order their trials ran.
    configs.sort(key=lambda config: [natural(config.labels[name]) for name in varied])
    return rank(configs, score.direction, resolution_of(trials.get(score.column, []))), varied


def _expectations(
    expect: Sequence[Mapping[str, Any]],
    trials: pd.DataFrame,
    results: Results,
    seeds: Mapping[str, int] | None,
) -> tuple[PublishedFigure, ...]:
    """Checks the published figures, whatever the question is. If several configs fit a figure's
    conditions, the one that the experiment itself selects is taken.

    seeds: as in `Question`; if it is None, each config should have as many trials as the largest.
    """
    if not expect:
        return ()
    if trials.empty:
        return tuple(check(expected, trials, {}, {}) for expected in expect)
    score = _score(results)
    configs, _ = _ranked(trials, results.fields, score)
    order = {config.config_id: place for place, config in enumerate(configs)}
    wanted = seeds or dict.fromkeys(order, max(config.trials for config in configs))
    return tuple(check(expected, trials, order, wanted) for expected in expect)
