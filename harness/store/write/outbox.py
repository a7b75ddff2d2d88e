"""Trials that ended while the store did not answer, on disk until they are written to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from harness.core.files import load_or_warn, write_checksummed
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record, Started, TestOutputs
from harness.store.coordination.processes import is_dead, process_tag
from harness.store.provenance import Moment

_SUFFIX = ".trial"
_NAME = re.compile(r"[0-9a-f]{1,64}")
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Started, Measured, BatchLosses, Ended)
}

TimedRecord = tuple[Record, Moment]
"""A record and when it came."""


@dataclass(frozen=True, slots=True)
class UnwrittenTrial:
    """A trial that has ended and is not in the store.

    process: the tag of the process that trained it. search: what a search records of the trial.
    """

    trial_id: str
    process: str
    records: tuple[TimedRecord, ...]
    search: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outbox:
    """A folder with one checksummed file per trial. An absent folder is an empty one."""

    folder: Path

    def put(
        self, trial_id: str, records: Sequence[TimedRecord], search: Mapping[str, Any] | None = None
    ) -> None:
        """Writes a trial that has ended. Raises OSError if the disk is full."""
        started = records[0][1]
        content = {
            "trial_id": trial_id,
            "owner": process_tag(),
            "started": (started.utc, started.steady),
            "records": [
                ({"kind": type(record).__name__, **_plain(record)}, at.utc, at.steady)
                for record, at in records
            ],
            "sampler": dict(search or {}),
        }
        write_checksummed(self._path(trial_id), content)

    def load(self, trial_id: str) -> UnwrittenTrial | None:
        """Reads a trial. Returns None, with a warning, if its file is damaged."""
        stored = load_or_warn(self._path(trial_id), "the trial will be trained again")
        if stored is None:
            return None
        return UnwrittenTrial(
            trial_id=stored["trial_id"],
            process=stored["owner"],
            records=tuple((_record(plain), Moment(*at)) for plain, *at in stored["records"]),
            search=stored.get("sampler", {}),
        )

    def remove(self, trial_id: str) -> None:
        """Removes a trial's file, and the folder with the last one."""
        self._path(trial_id).unlink(missing_ok=True)
        with suppress(OSError):  # It is not empty, or another process has removed it.
            self.folder.rmdir()

    def trial_ids(self) -> Iterator[str]:
        """Yields the ids of the trials in the folder."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if _NAME.fullmatch(path.stem):
                yield path.stem

    def orphans(self) -> Iterator[UnwrittenTrial]:
        """Yields the trials whose process died, or gave up, before it could write them."""
        for trial_id in self.trial_ids():
            unwritten = self.load(trial_id)
            if unwritten is None:
                self.remove(trial_id)
            elif unwritten.process == process_tag() or is_dead(unwritten.process):
                yield unwritten

    def _path(self, trial_id: str) -> Path:
        if not _NAME.fullmatch(trial_id):
            raise ValueError(f"not a trial's id: {trial_id!r}")
        return self.folder / (trial_id + _SUFFIX)


_STORED_NAMES = {"metadata": "facts", "test_outputs": "evidence"}
"""Fields that have another name in the files, as they had in version 0."""


def _plain(value: Any) -> Any:
    """Returns a record, or the value of one of its fields, as primitives and tensors, which torch
    loads without running code."""
    if is_dataclass(value):
        stored = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {_STORED_NAMES.get(name, name): plain for name, plain in stored.items()}
    if isinstance(value, Mapping):
        return dict(value)
    return value.value if isinstance(value, Outcome) else value


def _record(plain: dict[str, Any]) -> Record:
    kind = _KINDS[plain.pop("kind")]
    if kind is Ended:
        plain["outcome"] = Outcome(plain["outcome"])
        if plain["evidence"] is not None:
            plain["evidence"] = TestOutputs(**plain["evidence"])
    for name, stored in _STORED_NAMES.items():
        if stored in plain:
            plain[name] = plain.pop(stored)
    record: Record = kind(**plain)
    return record
