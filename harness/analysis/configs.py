"""Configs: trials that differ in their seed alone, summarised and labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.core.records import Outcome
from harness.experiment.trial import MAIN_COMPONENTS, MAIN_FIELDS, NOT_IN_CONFIG_ID
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL

OUTCOMES = ("done", "diverged", "failed", "interrupted", "running")
"""Every outcome that a trial may have."""
SELF_EXPLANATORY = (*MAIN_COMPONENTS, "study", "experiment")
"""Fields whose values need no field name beside them: "adam", but "lr 0.1"."""
_NOT_OF_A_CONFIG = {PARAM_TRIAL, PARAM_CONFIG, *NOT_IN_CONFIG_ID}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A config over its seeds.

    Trials that failed or are not finished have no value, and nothing is imputed.

    task: what the config was trained on, "" if all were trained on the same; scores are compared
        only within a task.
    labels: the text of each trial field (see `label_configs`).
    n, mean, sd: of the score over trials that are done; sd with n − 1, None for fewer than two.
    test_mean, test_sd: of `Score.test`. trials: all trials of the config, then by outcome.
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

    score, test: columns of `trials`. labels: as `label_configs` returns them. tasks: by config id.
    """
    done = trials["outcome"] == Outcome.DONE
    table = pd.DataFrame(
        {
            PARAM_CONFIG: trials[PARAM_CONFIG],
            "score": _scalar(trials, score).where(done),
            "test": _scalar(trials, test).where(done),
            **{outcome: trials["outcome"] == outcome for outcome in OUTCOMES},
        }
    )
    groups = table.groupby(PARAM_CONFIG, sort=False)
    columns = {
        "trials": groups.size(),
        "n": groups["score"].count(),
        "mean": groups["score"].mean(),
        "sd": groups["score"].std(ddof=1),
        "test_mean": groups["test"].mean(),
        "test_sd": groups["test"].std(ddof=1),
        **{outcome: groups[outcome].sum() for outcome in OUTCOMES},
    }
    texts = dict(zip(labels.index, labels.to_dict("records"), strict=True))
    rows = pd.DataFrame(columns)
    configs = []
    for config_id, row in zip(map(str, rows.index), rows.to_dict("records"), strict=True):
        values: dict[str, Any] = {
            str(name): None if np.isnan(value) else value for name, value in row.items()
        }
        label = texts[config_id]
        configs.append(Config(config_id=config_id, task=tasks[config_id], labels=label, **values))
    return configs


def _scalar(trials: pd.DataFrame, column: str | None) -> pd.Series[float]:
    if column is None or column not in trials.columns:
        return pd.Series(np.nan, index=trials.index, dtype=float)
    return trials[column].astype(float)


def label_configs(trials: pd.DataFrame, fields: Sequence[str]) -> pd.DataFrame:
    """Returns one row a config, indexed by `config_id`, with a column of text for each trial field.

    A component is labelled with its name and those of its options that differ among configs with
    that component: "mlp", or "mlp(hidden=[24])" beside "mlp(hidden=[64])".

    fields: the columns that describe a trial, options with dots.
    """
    configs = trials.drop_duplicates(PARAM_CONFIG).set_index(PARAM_CONFIG)
    names = {name for name in fields if "." not in name and name not in _NOT_OF_A_CONFIG}
    ordered = [name for name in MAIN_FIELDS if name in names] + sorted(names - set(MAIN_FIELDS))
    return pd.DataFrame(
        {name: _labels(configs, fields, name) for name in ordered}, index=configs.index
    )


def _labels(configs: pd.DataFrame, fields: Sequence[str], field: str) -> list[str]:
    names = configs[field].astype(str).to_numpy(dtype=object)
    options = [name for name in fields if name.startswith(f"{field}.")]
    texts = {option: configs[option].astype(str).to_numpy(dtype=object) for option in options}
    differing = {
        name: [option for option in options if len(set(texts[option][names == name])) > 1]
        for name in set(names)
    }
    labels = []
    for place, name in enumerate(names):
        values = {option: texts[option][place] for option in differing[name]}
        shown = [
            f"{option.removeprefix(field + '.')}={value}"
            for option, value in values.items()
            if value != ABSENT
        ]
        labels.append(f"{name}({', '.join(shown)})" if shown else name)
    return labels


def varying(labels: pd.DataFrame, within: str = "") -> tuple[str, ...]:
    """Returns the fields that differ among configs.

    within: a field whose values separate the configs first. The other fields must then differ
        among configs of one value: a loss that follows from the data set is left out.
    """
    if within not in labels.columns:
        return tuple(str(name) for name in labels.columns if labels[name].nunique() > 1)
    most = labels.groupby(within).nunique().max()
    return tuple(
        str(name)
        for name in labels.columns
        if (labels[name].nunique() if name == within else most[name]) > 1
    )


def name_of(labels: Mapping[str, str], fields: Sequence[str]) -> str:
    """Returns the text of some fields: "digits, mlp", or "lr 0.1"."""
    return ", ".join(
        labels[name] if name in SELF_EXPLANATORY else f"{name} {labels[name]}" for name in fields
    )
