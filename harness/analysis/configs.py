"""Configs: trials that differ in their seed alone, summarised and labelled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.resolution import power_of_two
from harness.components.base import NONE
from harness.core.records import Outcome
from harness.core.text import format_value
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    MAIN_COMPONENTS,
    MAIN_FIELDS,
    NO_LR,
    NOT_IN_CONFIG_ID,
    TRIAL_FIELDS,
)
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL

OUTCOMES = ("done", "diverged", "failed", "interrupted", "running")
"""Every outcome that a trial may have."""
STUDY = "study"
"""Label of a search's trials: the study that asked for them, or that they were retrained for."""
SELF_EXPLANATORY = (*MAIN_COMPONENTS, STUDY, "experiment")
"""Fields whose values need no field name beside them: "adam", but "lr 0.1"."""
NOT_GIVEN = {"dataset": NONE, "model": NONE, "optimizer": NONE, "lr": format_value(NO_LR)}
"""What the fields hold that a trial with a training loop does without."""
VERSION_MARK = " @ "
"""Stands between a data set and the version of its data (see `analysis.versions`)."""
_NOT_OF_A_CONFIG = {PARAM_TRIAL, PARAM_CONFIG, *NOT_IN_CONFIG_ID}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A config over its seeds.

    Trials that failed or are not finished have no value, and nothing is imputed.

    task: what the config was trained on, "" if all were trained on the same; scores are compared
        only within a task.
    labels: the text of each trial field (see `label_configs`).
    n, mean, sd: of the score over trials that are done; sd with n − 1, None for fewer than two.
    test_mean, test_sd, test_n: of `Score.test`. trials: all trials of the config, then by outcome.
    rank: the place within the task, from 1; equal configs share a rank; None if no trial finished.
    """

    config_id: str
    task: str
    labels: Mapping[str, str]
    n: int
    mean: float | None
    sd: float | None
    test_mean: float | None
    test_sd: float | None
    test_n: int
    trials: int
    done: int
    diverged: int
    failed: int
    interrupted: int
    running: int
    rank: int | None = None

    @property
    def divergence(self) -> float | None:
        """The share of the finished trials that diverged; None if no trial finished."""
        finished = self.done + self.diverged
        return self.diverged / finished if finished else None


def summarise(
    trials: pd.DataFrame,
    score: str,
    test: str | None,
    labels: pd.DataFrame,
    tasks: Mapping[str, str],
) -> list[Config]:
    """Returns one unranked config for each `config_id`, in the order of the trials.

    score, test: columns of `trials`. labels: as `label_configs` returns them. tasks: by config id;
        empty if all were trained on the same.
    """
    table = trials.reindex(columns=[score, test or "no test"]).astype(float)
    table.columns = pd.Index(["score", "test"])
    table[trials["outcome"] != Outcome.DONE] = np.nan
    for outcome in OUTCOMES:
        table[outcome] = trials["outcome"] == outcome
    groups = table.groupby(trials[PARAM_CONFIG], sort=False)
    means, deviations = _means_and_deviations(table[["score", "test"]], trials[PARAM_CONFIG])
    rows = pd.DataFrame(
        {
            "trials": groups.size(),
            "n": groups["score"].count(),
            "mean": means["score"],
            "sd": deviations["score"],
            "test_mean": means["test"],
            "test_sd": deviations["test"],
            "test_n": groups["test"].count(),
            **{outcome: groups[outcome].sum() for outcome in OUTCOMES},
        }
    )
    values: dict[Any, Any] = rows.astype(object).where(rows.notna(), None).to_dict("index")
    texts: dict[Any, Any] = labels.to_dict("index")
    return [
        Config(config_id=config, task=tasks.get(config, ""), labels=texts[config], **of)
        for config, of in values.items()
    ]


def _means_and_deviations(
    scores: pd.DataFrame, config: pd.Series[Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the means and standard deviations of each config, of scores of any size."""
    largest = scores.abs().groupby(config, sort=False).max().fillna(1.0)
    scale = pd.DataFrame(power_of_two(largest), largest.index, largest.columns)
    scaled = scores.div(scale.loc[config].to_numpy()).groupby(config, sort=False)
    return scaled.mean() * scale, scaled.std(ddof=1) * scale


def label_configs(trials: pd.DataFrame, fields: Sequence[str]) -> pd.DataFrame:
    """Returns one row a config, indexed by `config_id`, with a column of text for each trial field.

    A component is labelled with its name and those of its options that differ among configs with
    that component: "mlp", or "mlp(hidden=[24])" beside "mlp(hidden=[64])".

    fields: the columns that describe a trial, options with dots.
    """
    configs = trials.drop_duplicates(PARAM_CONFIG).set_index(PARAM_CONFIG)
    names = {name for name in fields if not _is_option(name, fields)} - _NOT_OF_A_CONFIG
    ordered = [name for name in MAIN_FIELDS if name in names] + sorted(names - set(MAIN_FIELDS))
    labels = pd.DataFrame(
        {name: component_labels(configs, fields, name) for name in ordered}, index=configs.index
    )
    has_loop = (
        configs.reindex(columns=["training_loop"], fill_value=ABSENT)["training_loop"] != ABSENT
    )
    for name, absent in NOT_GIVEN.items():
        if name in labels:
            labels[name] = labels[name].mask(has_loop & (labels[name] == absent), ABSENT)
    return labels


def _is_option(name: str, fields: Collection[str]) -> bool:
    """Whether a name with a dot is an option of a field. Other programs have fields with dots."""
    root, dot, _ = name.partition(".")
    return bool(dot) and root in fields


def component_labels(configs: pd.DataFrame, fields: Sequence[str], field: str) -> list[str]:
    """Returns a field's text for each row, with the options in which its rows differ."""
    names = configs[field].astype(str).to_numpy(dtype=object)
    options = [name for name in fields if name.startswith(f"{field}.")]
    texts = {option: configs[option].astype(str).to_numpy(dtype=object) for option in options}
    differing = {
        name: [option for option in options if len(set(texts[option][names == name])) > 1]
        for name in set(names)
    }
    labels = []
    for place, name in enumerate(names):
        shown = [
            f"{option.removeprefix(field + '.')}={texts[option][place]}"
            for option in differing[name]
            if texts[option][place] != ABSENT
        ]
        component, at, version = name.partition(VERSION_MARK)
        options_text = f"({', '.join(shown)})" if shown else ""
        labels.append(f"{component}{options_text}{at}{version}")
    return labels


def varying(labels: pd.DataFrame, within: str) -> tuple[str, ...]:
    """Returns the fields that differ among configs.

    within: a field whose values, if there are any, separate the configs first. The other fields
        must then differ among configs of one value: a loss that follows from the data set is left
        out.
    """
    values = labels.nunique()
    if within in labels:
        values.update(labels.groupby(within).nunique().max())
    return tuple(str(name) for name in values.index[values > 1])


def learning_rate(labels: Mapping[str, str]) -> float | None:
    """Returns a config's learning rate; None if it has none, or one that is no positive number."""
    try:
        rate = float(labels.get("lr", "nan"))
    except ValueError:
        return None
    return rate if isfinite(rate) and rate > 0 else None


def name_of(labels: Mapping[str, str], fields: Sequence[str]) -> str:
    """Returns the text of some fields: "digits, mlp", or "lr 0.1". What a training loop does
    without is left out."""
    named = [name for name in fields if name not in MAIN_FIELDS or labels[name] != ABSENT]
    return ", ".join(
        labels[name] if _explains_itself(name, labels[name]) else f"{name} {labels[name]}"
        for name in named or fields
    )


def _explains_itself(field: str, value: str) -> bool:
    """Whether a value needs no field beside it: that of a component, or a word that is the value of
    another program's field."""
    if field in SELF_EXPLANATORY or field in TRIAL_FIELDS:
        return field in SELF_EXPLANATORY
    return value[:1].isalpha() and value not in ("true", "false", "none", "nan", "inf")


def settings_of(
    labels: Mapping[str, str], shown: Sequence[str], named_by: Sequence[str]
) -> dict[str, str]:
    """Returns the labels of the fields `shown` that the name of a contender does not say already.

    named_by: the fields that make the name. The label of a study has fields of its own: "sgd", or
        "sgd batch_size=32".
    """
    study = f" {labels[STUDY]} " if STUDY in named_by else ""
    return {
        name: labels[name]
        for name in shown
        if name not in named_by
        and f" {name}={labels[name]} " not in study
        and not (name in COMPONENT_FIELDS and f" {labels[name]} " in study)
    }
