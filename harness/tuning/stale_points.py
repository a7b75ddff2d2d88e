"""Points that nobody trains any more: their process died, on this machine or on another.

A process of this host is looked up by its number. One of another host is judged by a counter that
each search renews in the studies of a shared storage, as `tracking.lease` judges a sweep: whoever
waits takes it for dead once the counter has not moved for `LEASE_SECONDS` of a steady clock of
its own. No time of day is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from harness.store.coordination.lease import LEASE_SECONDS, Renewal, Watch
from harness.store.coordination.owner import is_certain, is_dead, owner

OWNER: Final = "owner"
"""User attribute: the process that trains the point."""
LEASE: Final = "lease "
"""User attribute of a study, followed by an owner: its counter."""


class Heartbeat:
    """Renews this process's counter in each study, from `with` to its end, by a thread: a long
    epoch does not stop it."""

    def __init__(self, studies: Sequence[optuna.Study]) -> None:
        self._studies = studies
        self._counter = 0
        self._renewal = Renewal("heartbeat", self.renew, StorageInternalError)

    def __enter__(self) -> Heartbeat:
        self.renew()  # Before the first point is asked: what has no counter is never judged.
        self._renewal.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._renewal.stop()

    def renew(self) -> None:
        """Move the counter. Raises what the storage raises."""
        self._counter += 1
        for study in self._studies:
            study.set_user_attr(LEASE + owner(), self._counter)


class StalePoints:
    """What one observer has seen of a shared study's points."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._watch = Watch(LEASE_SECONDS)

    def among(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The running points whose process is dead, or has not been heard of for too long while
        this was called again and again."""
        running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        gone = self._watch.expired(self._counters(running), monotonic())
        return [t for t in running if _key(t) in gone or is_dead(t.user_attrs.get(OWNER, ""))]

    def _counters(self, running: Sequence[FrozenTrial]) -> dict[str, str]:
        """Of the owners that cannot be looked up here. A point that its process has not signed yet
        has a counter that never moves; an owner that never had one is left alone."""
        signed = {_key(trial) for trial in running if OWNER in trial.user_attrs}
        unsigned = {_key(trial): "" for trial in running if OWNER not in trial.user_attrs}
        foreign = {one for one in signed if not is_certain(one)}
        told = self._study.user_attrs if foreign else {}
        return unsigned | {one: str(told[LEASE + one]) for one in foreign if LEASE + one in told}


def _key(trial: FrozenTrial) -> str:
    """By whom a point is trained; the point itself, where nobody has signed it."""
    return str(trial.user_attrs.get(OWNER, f"#{trial.number}"))
