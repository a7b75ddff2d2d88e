"""Short names of configs: only what sets them apart from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.experiment.trial import MAIN_FIELDS, NOT_IN_CONFIG_ID
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL

_NOT_OF_A_CONFIG = {PARAM_TRIAL, PARAM_CONFIG, *NOT_IN_CONFIG_ID}


def label_configs(trials: pd.DataFrame, fields: Sequence[str]) -> pd.DataFrame:
    """One row a config, indexed by `config_id`; one column of text a trial field.

    A component is called by its name, followed by those options that differ among configs with
    that component: "mlp", or "mlp(hidden=[24])" beside "mlp(hidden=[64])".
    fields: the columns that say what a trial was, options dotted.
    """
    configs = trials.drop_duplicates(PARAM_CONFIG).set_index(PARAM_CONFIG)
    whole = [name for name in fields if "." not in name and name not in _NOT_OF_A_CONFIG]
    labels = {name: _labels(configs, fields, name) for name in _in_order(whole)}
    return pd.DataFrame(labels, index=configs.index)


def varying(labels: pd.DataFrame, within: str = "") -> tuple[str, ...]:
    """The fields that differ among configs. within: a field that differs too, and of whose values
    the others must set configs apart: what only follows from it (the loss that a data set asks
    for) is left out."""
    if within not in labels.columns:
        return tuple(str(name) for name in labels.columns if labels[name].nunique() > 1)
    most = labels.groupby(within).nunique().max()
    return tuple(
        str(name)
        for name in labels.columns
        if (labels[name].nunique() if name == within else most[name]) > 1
    )


def _in_order(fields: Sequence[str]) -> list[str]:
    """Sorts fields: those that people look for first, then all others by name."""
    main = [name for name in MAIN_FIELDS if name in fields]
    return main + sorted(set(fields) - set(main))


def _labels(configs: pd.DataFrame, fields: Sequence[str], field: str) -> list[str]:
    names = [str(name) for name in configs[field]]
    options = [name for name in fields if name.startswith(f"{field}.")]
    told: dict[str, list[str]] = {}
    for name in set(names):
        same = configs.loc[[other == name for other in names], options]
        told[name] = [option for option in options if same[option].nunique() > 1]
    rows = configs[options].to_dict("records")
    return [
        _called(name, field, {option: str(row[option]) for option in told[name]})
        for name, row in zip(names, rows, strict=True)
    ]


def _called(name: str, field: str, options: Mapping[str, str]) -> str:
    told = [
        f"{option.removeprefix(field + '.')}={value}"
        for option, value in options.items()
        if value != ABSENT
    ]
    return f"{name}({', '.join(told)})" if told else name
