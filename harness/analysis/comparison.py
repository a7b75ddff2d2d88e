"""One experiment's trials, brought into the form that every section of a report reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from harness.analysis.configs import COUNTS, Config, rank, summarise
from harness.analysis.expectations import Checked, check
from harness.analysis.filters import Condition, matching, natural, require_matching
from harness.analysis.labels import label_configs, varying
from harness.analysis.score import Score, choose_score
from harness.analysis.tuned import Tuned, best_of_each
from harness.core.errors import InputError, Problem, did_you_mean
from harness.experiment.plan import Plan
from harness.store.names import PARAM_CONFIG, PARAM_TRIAL
from harness.store.read.results import Results
from harness.store.read.run_details import JoinedRunDetails, RunDetails

TASK = "dataset"
"""Trials of different data sets are never ranked against each other."""
STUDY = "study"
"""Label of a search's trials: the study that asked for them, or tuned and compared them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of an experiment's results.

    metric: instead of the selection metric (see `score.choose_score`). where: only these trials.
    by: whose best configs are shown and compared; by default each optimizer's.
    top: the most rows of a table; None for all.
    planned: trial ids of the experiment's file; others in the store are left out. None: all count.
    tuning: whether points that a search chose by stand apart, and are no trials to be ranked where
        there are others: they were chosen by the very seeds that they were trained on.
    expect: published figures, instead of those of the newest sweep.
    baseline: the contender that all others are compared with; by default all pairs are.
    """

    metric: str | None = None
    where: Condition = field(default_factory=dict)
    by: tuple[str, ...] = ()
    top: int | None = None
    planned: Collection[str] | None = None
    tuning: bool = True
    expect: Sequence[Mapping[str, Any]] | None = None
    baseline: str | None = None

    def of_plan(self, plan: Plan) -> Question:
        """The same of what a file asks for now: its trials, and its published figures. Of a
        search, the points that it tried stand beside them."""
        return replace(
            self,
            planned={planned.trial_id for planned in plan.trials},
            tuning=plan.experiment.search is not None,
            expect=tuple(asdict(figure) for figure in plan.experiment.expect),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the sections of a report are made from.

    trials: those compared, as in `Results.trials`. configs: ranked, the best first; task by task.
    shown: the fields that differ among configs, without the data set.
    groups: the best config of each combination of `by`; without a question, of each model and
    optimizer.
    contenders: those of which the verdict speaks, the best config of each combination of
    `contend_by`; without a question, of each optimizer, or single configs where all have one. Of
    a search it is each study: to a label, one optimizer with two momenta is two.
    expectations: over all trials, `where` or not.
    unplanned: trials in the store that the file no longer asks for, left out.
    missing: trials of the file that are not in the store. filtered: left out by `where`.
    fields: as in `Results`. target: the value of the selection metric to be reached.
    details: see `Results.archive`.
    tuning: the same of the points that a search chose by; None where there are none.
    """

    experiment: str
    question: Question
    score: Score
    trials: pd.DataFrame
    configs: tuple[Config, ...]
    tasks: tuple[str, ...]
    shown: tuple[str, ...]
    by: tuple[str, ...]
    groups: tuple[Tuned, ...]
    contenders: tuple[Tuned, ...]
    contend_by: tuple[str, ...]
    expectations: tuple[Checked, ...]
    unplanned: int
    missing: int
    filtered: int
    superseded: int
    fields: tuple[str, ...]
    target: float | None
    details: RunDetails | JoinedRunDetails | None
    tuning: Comparison | None = None

    @property
    def explored(self) -> Comparison:
        """What was tried over the space: a search's points, else the trials compared."""
        return self.tuning or self

    def generator(self, purpose: str) -> np.random.Generator:
        """A generator for one purpose, the same at every reading: a report's intervals must not
        change with the sections that are made beside them."""
        return np.random.default_rng(crc32(purpose.encode()))

    def outcomes(self) -> dict[str, int]:
        """How many trials ended in each way."""
        return {outcome: int((self.trials["outcome"] == outcome).sum()) for outcome in COUNTS}


def compare(results: Results, question: Question) -> Comparison:
    """Answer a question. Raises InputError for a field, value or metric that no trial has."""
    everything, tried, unplanned, missing = _planned(results, question)
    trials = require_matching(everything, results.fields, question.where)
    score = choose_score(results.scalars, results.metric, results.direction, question.metric)
    configs, shown = _ranked(trials, results.fields, score)
    asked = _known(question.by, configs[0].labels)
    studies = _studies(configs)
    by = asked or studies or tuple(name for name in ("model", "optimizer") if name in shown)
    contend_by = asked or studies or _default_contenders(shown)
    expect = results.expect if question.expect is None else question.expect
    return Comparison(
        experiment=results.experiment,
        question=question,
        score=score,
        trials=trials,
        configs=configs,
        tasks=tuple(dict.fromkeys(config.task for config in configs)),
        shown=tuple(name for name in shown if name != TASK),
        by=by,
        groups=best_of_each(configs, by),
        contenders=best_of_each(configs, contend_by),
        contend_by=contend_by,
        expectations=_expectations(expect, everything, results),
        unplanned=unplanned,
        missing=missing,
        filtered=len(everything) - len(trials),
        superseded=results.superseded,
        fields=results.fields,
        target=results.target,
        details=results.details,
        tuning=_tuning(results, tried, question),
    )


def _tuning(results: Results, tried: pd.DataFrame, question: Question) -> Comparison | None:
    """The comparison of a search's points by themselves."""
    kept = matching(tried, question.where)
    if kept.empty:
        return None
    asked = replace(question, planned=None, tuning=False, expect=(), baseline=None)
    return compare(replace(results, trials=kept), asked)


def _studies(configs: Sequence[Config]) -> tuple[str, ...]:
    """The field that sets a search's studies apart, where there are several."""
    return (STUDY,) if len({config.labels.get(STUDY) for config in configs}) > 1 else ()


def _default_contenders(shown: Sequence[str]) -> tuple[str, ...]:
    """Optimizers; single configs where all have one."""
    return ("optimizer",) if "optimizer" in shown else tuple(shown)


def _planned(results: Results, question: Question) -> tuple[pd.DataFrame, pd.DataFrame, int, int]:
    """The trials that count, a search's points beside them, how many trials are neither, and how
    many are not there."""
    chosen_by = results.trials["tuning"].astype(bool) & question.tuning
    if question.planned is None:
        if chosen_by.all():
            chosen_by[:] = False
        return results.trials[~chosen_by], results.trials[chosen_by], 0, 0
    wanted = set(question.planned)
    planned = results.trials[PARAM_TRIAL].isin(wanted)
    kept, tried = results.trials[planned], results.trials[chosen_by & ~planned]
    if kept.empty:
        raise InputError(
            f"none of the {len(wanted)} trials of the file is in the store; experiment "
            f"{results.experiment!r} holds {len(results.trials)} others: run the sweep, or give "
            "the experiment's name in place of its file"
        )
    others = len(results.trials) - len(kept) - len(tried)
    return kept, tried, others, len(wanted) - len(kept)


def _ranked(
    trials: pd.DataFrame, fields: Sequence[str], score: Score
) -> tuple[tuple[Config, ...], tuple[str, ...]]:
    labels = label_configs(trials, fields)
    shown = varying(labels, TASK)
    study_of = trials.drop_duplicates(PARAM_CONFIG).set_index(PARAM_CONFIG)["study"]
    if (study_of != "").all():
        labels[STUDY] = study_of.reindex(labels.index)
    told = labels[TASK] if TASK in shown else pd.Series("", index=labels.index)
    tasks = {str(config): str(task) for config, task in told.items()}
    configs = summarise(trials, score, labels, tasks)
    # Equal configs stand in the order of their labels, however their trials came to be run.
    configs.sort(key=lambda config: [natural(config.labels[name]) for name in shown])
    return rank(configs, score.direction), shown


def _known(asked: Sequence[str], fields: Collection[str]) -> tuple[str, ...]:
    unknown = [name for name in asked if name not in fields]
    if unknown:
        raise InputError(
            [Problem(f"--by: no field {n!r}", hint=did_you_mean(n, fields)) for n in unknown]
        )
    return tuple(asked)


def _expectations(
    expect: Sequence[Mapping[str, Any]], trials: pd.DataFrame, results: Results
) -> tuple[Checked, ...]:
    """Published figures speak of the experiment, whatever is asked of it here: of several configs
    that fit, the one is taken that the experiment itself selects."""
    if not expect:
        return ()
    score = choose_score(results.scalars, results.metric, results.direction)
    configs, _ = _ranked(trials, results.fields, score)
    order = {config.config_id: place for place, config in enumerate(configs)}
    return tuple(check(expected, trials, order) for expected in expect)
