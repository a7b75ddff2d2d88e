"""Runs one task where it is called: what every engine does at its far end."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from harness.dispatch.engine import Task
from harness.errors import HarnessError
from harness.records import Ended, Outcome, Record, Started


def run(task: Task) -> Iterator[Record]:
    """A task's records. An exception becomes a failed `Ended`, with its traceback.

    torch is imported here and not before, so that a sweep with nothing to do is quick.
    """
    from harness.training.build import assemble
    from harness.training.loop import train

    try:
        for record in train(assemble(task.trial, task.data_root), task.evidence):
            if isinstance(record, Started):
                record = Started({**record.facts, "exclusive": task.exclusive})
            yield record
    except HarnessError as error:
        yield Ended(Outcome.FAILED, {}, reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a model or a library raises
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        yield Ended(Outcome.FAILED, {}, reason=reason, traceback=traceback.format_exc())
