"""Versions of data and of code: what was trained on different bytes belongs to different tasks, and
what was trained by different code is never averaged.

A data set is known by its checksum, not by its name or path; so are pretrained weights, which are a
part of the model. A component of a user's own is known by the identity of its code. Where the
compared trials saw several versions, the field's value names each: "csv @ 3fa2c1d0". All groups
follow from the values of fields, and so keep versions apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.analysis.configs import VERSION_MARK, component_labels
from harness.components.registry import UnknownComponent, find, object_name
from harness.experiment.trial import COMPONENT_FIELDS
from harness.store.names import PARAM_CONFIG, PARAM_TRIAL
from harness.store.read.code_versions import read_codes

CHECKSUM_COLUMNS = {"dataset": "data", "model": "weights"}
"""The column of checksums of what a field's component reads, by field."""
UNKNOWN = "unknown"
"""Stands for the checksum of runs whose store does not say what they were trained on."""
DIGITS = 8
"""Digits of a checksum that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One of several versions of a data set, of a model's pretrained weights, or of a component's
    code.

    of: what has versions: "data", "weights" or "code".
    field: of the trial, as "dataset" or "model". name: of its component, without the version.
    version: the first digits of its checksum, or `UNKNOWN`.
    trials: how many the store has. newest: when the last of them started, in ISO 8601.
    current: whether it is that of the experiment's file or, where none was given, of the newest
        runs.
    """

    of: str
    field: str
    name: str
    version: str
    trials: int
    newest: str
    current: bool


@dataclass(frozen=True, slots=True)
class VersionedTrials:
    """The trials with versions apart.

    trials: as in `Results.trials`, where each version has a field value and config ids of its own.
        Options that are paths have one value for each version.
    current: whether a trial was trained on the current version of its data set and its weights.
    versions: of each component that has several, or none that is current.
    """

    trials: pd.DataFrame
    current: pd.Series[bool]
    versions: tuple[Version, ...]


def separate_versions(
    trials: pd.DataFrame,
    fields: Sequence[str],
    compared: pd.Series[bool] | None = None,
    data: Mapping[str, str] | None = None,
) -> VersionedTrials:
    """Separates trials by what they were trained on.

    compared: which trials are compared, by default all; a field's value names its version if these
        trials have several. data: the checksum of its data set, by the id of each of the experiment
        file's trials; they are current in place of those of the newest runs.
    """
    trials = trials.copy()
    compared = pd.Series(True, trials.index) if compared is None else compared
    current, versions = pd.Series(True, trials.index), []
    for column in CHECKSUM_COLUMNS.values():
        trials[column] = _inferred(trials, column, data if column == "data" else None)
    for column in CHECKSUM_COLUMNS.values():
        _separate_configs(trials, trials[column])
    codes = _codes(trials)
    for _, identities in codes.values():
        _separate_configs(trials, identities)
    for field, column in CHECKSUM_COLUMNS.items():
        if field not in trials:  # Trials of another program, which may have no model.
            continue
        _unify_paths(trials, fields, field)
        groups = _Groups(trials, fields, field, column, trials[column])
        of_file = None if data is None or column != "data" else set(data.values())
        is_current = groups.is_current(of_file)
        versions += groups.versions(is_current)
        current &= is_current
        trials[field] = groups.named(compared)
    planned = trials[PARAM_TRIAL].isin(list(data or ()))
    for field, (names, identities) in codes.items():
        groups = _Groups(trials, fields, field, "code", identities, names)
        is_current = groups.is_newest(planned)
        versions += groups.versions(is_current)
        current &= is_current
        trials[field] = groups.named(compared)
    return VersionedTrials(trials, current, tuple(versions))


def _codes(trials: pd.DataFrame) -> dict[str, tuple[pd.Series[Any], pd.Series[Any]]]:
    """Returns the names and the identities of the user's own components, by the fields that have
    any; for a trial without one, the field's value and ""."""
    names: dict[str, dict[str, str]] = {}
    identities: dict[str, dict[str, str]] = {}
    for text in trials["code"].unique() if "code" in trials else ():
        for field, codes in read_codes(text).items():
            if field in trials.columns:
                names.setdefault(field, {})[text] = ", ".join(map(object_name, sorted(codes)))
                identities.setdefault(field, {})[text] = "+".join(codes[n] for n in sorted(codes))
    return {
        field: (
            trials["code"].map(names[field]).fillna(trials[field].astype(str)),
            trials["code"].map(identities[field]).fillna("").astype(object),
        )
        for field in names
    }


def _inferred(
    trials: pd.DataFrame, column: str, by_trial: Mapping[str, str] | None
) -> pd.Series[Any]:
    """Returns a column of checksums. A run without one has that of its config, whose id is a hash
    of it, or that of its trial in a file."""
    known = trials[trials[column] != ""].groupby(PARAM_CONFIG)[column]
    of_config = known.first()[known.nunique() == 1]
    inferred = trials[PARAM_CONFIG].map(dict(of_config)).astype(object)
    inferred = inferred.where(inferred.notna(), trials[PARAM_TRIAL].map(by_trial or {}))
    return trials[column].where(trials[column] != "", inferred.where(inferred.notna(), ""))


def _separate_configs(trials: pd.DataFrame, checksums: pd.Series[Any]) -> None:
    """Makes the trials of a config that have different checksums different configs. Earlier
    releases stored a run's trial under the planned data, whatever the worker found."""
    several = checksums.groupby(trials[PARAM_CONFIG]).transform("nunique") > 1
    version = "@" + checksums.replace("", UNKNOWN).str[:DIGITS]
    trials[PARAM_CONFIG] = trials[PARAM_CONFIG].where(~several, trials[PARAM_CONFIG] + version)


def _unify_paths(trials: pd.DataFrame, fields: Sequence[str], field: str) -> None:
    """Gives options that are no part of an id, such as a path, one value for all trials on the same
    bytes: that which most versions share, so that these have one name, and else the newest."""
    paths = [name for name in _outside_ids(trials, field) if name in trials]
    if not paths:
        return
    others = [name for name in _options(fields, field) if name not in paths]
    column = CHECKSUM_COLUMNS[field]
    known = trials[trials[column] != ""]
    if known.empty:
        return
    for path in paths:
        shared = known.groupby([field, *others, path], sort=False)[column].transform("nunique")
        ranked = known.assign(shared=shared).sort_values(["shared", "started"], kind="stable")
        chosen = ranked.groupby([field, *others, column], sort=False)[path].transform("last")
        trials.loc[chosen.index, path] = chosen


def _outside_ids(trials: pd.DataFrame, field: str) -> list[str]:
    """Returns the options of a field's components that are no part of an id."""
    found: dict[str, None] = {}
    for name in trials[field].unique():
        try:
            options = find(COMPONENT_FIELDS[field], str(name)).options
        except UnknownComponent:
            continue
        for option, info in options.model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and extra.get("not_in_id"):
                found[f"{field}.{option}"] = None
    return list(found)


def _options(fields: Sequence[str], field: str) -> list[str]:
    return [name for name in fields if name.startswith(f"{field}.")]


class _Groups:
    """The trials by the component of one field and its options, or by `names`: each group may have
    versions."""

    def __init__(
        self,
        trials: pd.DataFrame,
        fields: Sequence[str],
        field: str,
        of: str,
        checksums: pd.Series[Any],
        names: pd.Series[Any] | None = None,
    ) -> None:
        self._field, self._trials = field, trials
        self._of, self._checksums = of, checksums
        self._fields, self._names = fields, names
        keys = trials[[field, *_options(fields, field)]] if names is None else names.to_frame()
        keys = keys.astype(str)
        self._group = keys.groupby(list(keys.columns), sort=False).ngroup()

    def named(self, compared: pd.Series[bool]) -> pd.Series[Any]:
        """Returns the field's values, with the version where `compared` trials have several."""
        count = self._checksums[compared].groupby(self._group[compared]).nunique()
        several = self._group.map(count).fillna(0) > 1
        names = self._trials[self._field].astype(str)
        return names.where(~several, names + VERSION_MARK + self._versions())

    def is_current(self, checksums: Collection[str] | None) -> pd.Series[bool]:
        """Whether each trial's version is one of `checksums`, by default of its group's newest
        run."""
        if checksums is not None:
            return self._checksums.isin(list(checksums))
        return self.is_newest(pd.Series(False, self._trials.index))

    def is_newest(self, preferred: pd.Series[bool]) -> pd.Series[bool]:
        """Whether each trial's version is that of its group's newest run, or of the newest of its
        `preferred` ones where it has any."""
        order = self._trials[["started"]].assign(preferred=preferred)
        places = order.sort_values(["preferred", "started"], kind="stable").index
        of_group = self._checksums.loc[places].groupby(self._group).transform("last")
        return self._checksums == of_group.reindex(self._checksums.index)

    def versions(self, is_current: pd.Series[bool]) -> list[Version]:
        """Describes the versions of each group that has several, or none that is current."""
        count = self._checksums.groupby(self._group).transform("nunique")
        told = (count > 1) | ~is_current.groupby(self._group).transform("all")
        if not told.any():
            return []
        labels = self._names
        if labels is None:
            names = component_labels(self._trials, self._fields, self._field)
            labels = pd.Series(names, self._trials.index)
        texts, found = self._versions(), []
        for _, of_group in self._trials[told].groupby(self._group[told], sort=False):
            place = of_group.index
            by_version = of_group.groupby(texts[place], sort=False)
            for version, of in sorted(by_version, key=lambda each: each[1]["started"].max()):
                found.append(
                    Version(
                        of=self._of,
                        field=self._field,
                        name=labels[place[0]],
                        version=str(version),
                        trials=len(of),
                        newest=of["started"].max().isoformat(timespec="seconds"),
                        current=bool(is_current[of.index].all()),
                    )
                )
        return found

    def _versions(self) -> pd.Series[Any]:
        """Returns the first digits of each checksum, or all where the first do not tell it from
        another."""
        checksums = self._checksums.replace("", UNKNOWN)
        short = {checksum: checksum[:DIGITS] for checksum in checksums.unique()}
        return checksums if len(set(short.values())) < len(short) else checksums.map(short)
