"""Trials that ended while the store did not answer: on disk until they are written, once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.core.checksummed import load_or_warn, write_checksummed
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record, Started, TestOutputs
from harness.store.coordination.processes import is_dead, process_tag
from harness.store.write.run_log import Moment

_SUFFIX = ".trial"
_NAME = re.compile(r"[0-9a-f]{1,64}")
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Started, Measured, BatchLosses, Ended)
}

Timed = tuple[Record, Moment]


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A whole trial: its records and when each came. process: the tag of the process that trained
    it. sampler: what a search knows of it; empty where none asked for it."""

    trial_id: str
    process: str
    started: Moment
    records: tuple[Timed, ...]
    sampler: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outbox:
    """A folder of one sealed file a trial. Empty and absent are the same."""

    folder: Path

    def put(
        self,
        trial_id: str,
        started: Moment,
        records: Sequence[Timed],
        sampler: Mapping[str, Any] | None = None,
    ) -> Path:
        """Keep a trial that has ended. Raises OSError where the disk has no room."""
        path = self._path(trial_id)
        content = {
            "trial_id": trial_id,
            "owner": process_tag(),
            "started": (started.utc, started.steady),
            "records": [(_plain(record), at.utc, at.steady) for record, at in records],
            "sampler": dict(sampler or {}),
        }
        write_checksummed(path, content)
        return path

    def take(self, trial_id: str) -> Unwritten | None:
        """A trial that is kept; None, with a warning, where its file is damaged."""
        found = load_or_warn(self._path(trial_id), "the trial will be trained again")
        if found is None:
            return None
        return Unwritten(
            trial_id=found["trial_id"],
            process=found["owner"],
            started=Moment(*found["started"]),
            records=tuple((_record(plain), Moment(*at)) for plain, *at in found["records"]),
            sampler=found.get("sampler", {}),
        )

    def remove(self, trial_id: str) -> None:
        """Forget a trial, which is written; the folder goes with the last."""
        self._path(trial_id).unlink(missing_ok=True)
        with suppress(OSError):  # It is not empty, or another has removed it.
            self.folder.rmdir()

    def held(self) -> Iterator[str]:
        """The ids of the trials that are kept."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if _NAME.fullmatch(path.stem):
                yield path.stem

    def orphans(self) -> Iterator[Unwritten]:
        """Trials whose process died, or gave up, before it could write them."""
        for trial_id in self.held():
            kept = self.take(trial_id)
            if kept is None:
                self.remove(trial_id)
            elif kept.process == process_tag() or is_dead(kept.process):
                yield kept

    def _path(self, trial_id: str) -> Path:
        if not _NAME.fullmatch(trial_id):
            raise ValueError(f"not a trial's id: {trial_id!r}")
        return self.folder / (trial_id + _SUFFIX)


_STORED_NAMES = {"metadata": "facts", "test_outputs": "evidence"}
"""Fields that the files call otherwise: files of version 0 are still read."""


def _plain(record: Record) -> dict[str, Any]:
    """A record as primitives and tensors, which load without running anyone's code."""
    values = {
        _STORED_NAMES.get(field.name, field.name): getattr(record, field.name)
        for field in fields(record)
    }
    match record:
        case Started():
            values["facts"] = dict(record.metadata)
        case Measured():
            values["values"] = dict(record.values)
        case Ended():
            values["outcome"] = record.outcome.value
            values["final"] = dict(record.final)
            values["facts"] = dict(record.metadata)
            if record.test_outputs is not None:
                values["evidence"] = {
                    field.name: getattr(record.test_outputs, field.name)
                    for field in fields(record.test_outputs)
                } | {"state_dict": dict(record.test_outputs.state_dict)}
    return {"kind": type(record).__name__, **values}


def _record(plain: dict[str, Any]) -> Record:
    kind = _KINDS[plain.pop("kind")]
    if kind is Ended:
        plain["outcome"] = Outcome(plain["outcome"])
        if plain["evidence"] is not None:
            plain["evidence"] = TestOutputs(**plain["evidence"])
    for name, stored in _STORED_NAMES.items():
        if stored in plain:
            plain[name] = plain.pop(stored)
    made: Record = kind(**plain)
    return made
