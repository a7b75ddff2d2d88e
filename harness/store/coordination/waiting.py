"""Says for whom a process waits, and ends a wait for a process that gives no sign of life."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError, StoreUnreachable
from harness.core.files import lock_holders
from harness.core.text import join_with_and, plural
from harness.store import names
from harness.store.coordination.leases import LEASE_SECONDS, LeaseMonitor, running_parents
from harness.store.coordination.processes import describe, is_dead, is_on_this_host, process_tag
from harness.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

LOOK_SECONDS = 5.0
"""How often the store is asked who is alive."""


class Waiting:
    """A wait for trials that other processes of a store hold.

    A process of another machine that falls silent is given up by `Lease.renew`, and its claims with
    it. One of this machine keeps its claims until it ends, even if it was stopped: then, and where
    nobody in the store can be meant, the wait ends in an error after the time of a lease.

    say: prints a line.
    """

    def __init__(self, store: Store, experiment_id: str, say: Callable[[str], None]) -> None:
        self._store, self._experiment_id, self._say = store, experiment_id, say
        self._monitor = LeaseMonitor(LEASE_SECONDS)
        self._looked = float("-inf")
        self._said = ""

    def look(self, trials: int) -> None:
        """To be called again and again during the wait for so many trials.

        Raises HarnessError if it would last for ever, StoreError if the store cannot be read.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            others = self._others()
        except StoreUnreachable:
            return  # Then nobody's counter can be seen.
        who = join_with_and([_describe(run) for run in others.values()] or [self._unknown()])
        held = f"{plural(trials, 'trial')} held by {who}"
        if who != self._said:
            self._said = who
            self._say(f"waiting for {held}")
        counters = {key: run.data.tags.get(names.TAG_HEARTBEAT, "") for key, run in others.items()}
        silent = self._monitor.expired(counters or {"": ""}, now)
        if all(key in silent and _is_here(run) for key, run in others.items()) and silent:
            raise HarnessError(
                f"{held}, of which nothing was heard for {LEASE_SECONDS:.0f} s: {_way_out(others)}"
            )

    def _unknown(self) -> str:
        """Describes who holds claims although nobody has an open run in the store."""
        pids = lock_holders(self._store.claims_file(self._experiment_id))
        who = " or ".join(f"process {pid}" for pid in pids) or "a process"
        return f"{who} that has no run in this store"

    def _others(self) -> dict[str, Run]:
        """Returns the open parent runs of other processes that may be alive, by id."""
        parents = running_parents(self._store, self._experiment_id)
        tags = {run.info.run_id: run.data.tags.get(names.TAG_PROCESS, "") for run in parents}
        return {
            run.info.run_id: run
            for run in parents
            if tags[run.info.run_id] != process_tag() and not is_dead(tags[run.info.run_id])
        }


def _is_here(run: Run) -> bool:
    """Whether a process keeps its claims although it is silent. One without a lease is not."""
    tags = run.data.tags
    return names.TAG_HEARTBEAT in tags and is_on_this_host(tags.get(names.TAG_PROCESS, ""))


def _way_out(others: Mapping[str, Run]) -> str:
    if others:
        return "end it, or let it go on, and run the same command again"
    return (
        "is another store in this folder a copy of this one? Give the copy a folder of its own, or "
        "run the same command again once the other process has ended"
    )


def _describe(run: Run) -> str:
    since = datetime.fromtimestamp(run.info.start_time / 1000).astimezone()
    return f"{describe(run.data.tags.get(names.TAG_PROCESS, ''))} (since {since:%Y-%m-%d %H:%M})"
