"""Writes a sweep's records in a separate thread, so that training never waits for the store.

The thread is the one place that decides when rows are committed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Final

from harness.core.errors import StoreUnreachable
from harness.core.records import NOT_REPEATED, Ended, Record
from harness.experiment.plan import PlannedTrial
from harness.store.provenance import Moment
from harness.store.retry import retry_while
from harness.store.write.outbox import TimedRecord
from harness.store.write.sweep_writer import SweepWriter
from harness.store.write.trial_run import TrialRun

COMMIT_SECONDS = 0.5
"""Between two commits: a record that comes alone is committed at once, and of a burst of short
trials each commit takes all that came in the meantime."""

MAX_ROWS = 40_000
"""Rows in one commit: some 20 MB, and some tenths of a second."""

FLUSH_SECONDS = 5.0
FLUSH_SECONDS_PER_RUN = 0.05
"""Between two writes of a running trial's curves, and how much that grows with each open run, so
that writing never takes over. A trial that ends sooner is written once."""

MAX_QUEUED = 2000
"""Records that may wait for the thread. If trials measure faster than the store can write, training
waits: memory is bounded, and an interruption never has long to write."""

STUCK_SECONDS = 10.0
"""A write that takes longer means that the store does not answer: trials that end go to disk."""

EXIT_SECONDS = 60.0
"""How long a sweep whose training is over waits for a store that does not answer."""

POLL_SECONDS: Final = 0.1
"""Between two looks at whether a trial is stored."""

_logger = logging.getLogger(__name__)


class BackgroundWriter:
    """Hands records to a SweepWriter in a thread, in their order, and commits.

    `with BackgroundWriter(writer) as background`: leaving the block waits until everything is
    stored, also after an exception. A store that does not answer is tried again for as long as
    training goes on, and `EXIT_SECONDS` more. In the meantime each trial that ends is written to
    the outbox, so that a later process can store it if this one dies or gives up.

    in_step: wait for each record to be written, unless the store does not answer. For training in
    this very process, whose clocks a second thread would disturb.

    Methods raise what the thread could not write. Call them from one thread.
    """

    def __init__(self, writer: SweepWriter, in_step: bool = False) -> None:
        self.seconds = 0.0
        self.trials = 0
        self._writer = writer
        self._in_step = in_step
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._busy_since: float | None = None
        self._deadline: float | None = None
        self._error: BaseException | None = None
        self._last_commit = float("-inf")
        self._trials: dict[str, _BufferedTrial] = {}
        self._ended: list[_BufferedTrial] = []

    def __enter__(self) -> BackgroundWriter:
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> None:
        self._deadline = time.monotonic() + EXIT_SECONDS
        self._jobs.put(None)
        if self.is_stuck():
            _logger.warning("waiting for the store to answer (at most %.0f s)", EXIT_SECONDS)
        try:
            self._thread.join()
        except KeyboardInterrupt:  # A second one ends the process; the first cuts no write.
            self._thread.join()
            raise
        finally:
            self._save_unwritten()
        if error is None:
            self._raise_error()

    def record(
        self, planned: PlannedTrial, record: Record, search: Mapping[str, Any] | None = None
    ) -> None:
        """Writes a record soon. See `SweepWriter.record`."""
        at = Moment.now()
        trial = self._trials.get(planned.trial_id)
        if trial is None or trial.has_ended:
            trial = _BufferedTrial(planned, search or {}, flushed=at.steady)
            self._trials[planned.trial_id] = trial
        trial.records.append((record, at))
        if isinstance(record, Ended) and self.is_stuck() and self._save(trial):
            # Do not hold the weights in memory while nothing can be written.
            record = replace(record, test_outputs=None)
            trial.records[-1] = (record, at)
        self._put(lambda: self._write(trial, record, at))

    def wait_until_safe(self, planned: PlannedTrial) -> None:
        """Waits until a trial that has ended is in the store or, if that does not answer, on disk:
        a kill loses it no more."""
        trial = self._trials.get(planned.trial_id)
        if trial is None:
            return
        self._put(self._commit)
        while not trial.stored.wait(POLL_SECONDS):
            self._raise_error()
            if self.is_stuck() and self._save(trial):
                break
        if trial.on_disk and trial.stored.is_set():  # The store answered in the meantime.
            self._writer.outbox.remove(planned.trial_id)

    def is_stuck(self) -> bool:
        """Whether the store does not answer."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > STUCK_SECONDS

    def cost(self) -> str:
        """Returns the time per trial that writing took, as text; empty before the first trial."""
        if not self.trials:
            return ""
        return f"writing to MLflow: {1000 * self.seconds / self.trials:.0f} ms per trial"

    def _put(self, job: Callable[[], None]) -> None:
        """Lets the thread do a job after those before it."""
        self._raise_error()
        while self._jobs.qsize() >= MAX_QUEUED and not self.is_stuck() and self._error is None:
            time.sleep(0.005)
        self._jobs.put(job)
        if self._in_step:
            done = threading.Event()
            self._jobs.put(done.set)
            while not (self._error or self.is_stuck() or done.wait(POLL_SECONDS)):
                pass
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _save(self, trial: _BufferedTrial) -> bool:
        """Writes a trial that has ended to the outbox. Returns whether it is there."""
        if not trial.on_disk and trial.is_over:
            try:
                self._writer.outbox.put(trial.planned.trial_id, trial.records, trial.search)
                trial.on_disk = True
            except OSError as error:
                _logger.warning("%s cannot be saved on disk: %s", trial.planned.name, error)
        return trial.on_disk

    def _save_unwritten(self) -> None:
        """After the thread gave up: writes to the outbox what ended and is not in the store."""
        if not isinstance(self._error, StoreUnreachable):
            return
        saved = sum(self._save(trial) for trial in self._trials.values())
        if saved:
            self._error = StoreUnreachable(
                f"{self._error}\n{saved} trials that ended wait in {self._writer.outbox.folder}: "
                "run the same command again once the store answers, and it takes them in"
            )

    # The rest runs in the thread.

    def _run(self) -> None:
        with retry_while(self._may_wait):
            while True:
                try:
                    job = self._jobs.get(timeout=self._seconds_to_commit())
                except Empty:
                    self._do(self._commit)
                    continue
                if job is None:
                    self._do(self._commit)
                    return
                self._do(job)
                if self._seconds_to_commit() == 0.0 or self._writer.pending >= MAX_ROWS:
                    self._do(self._commit)

    def _may_wait(self) -> bool:
        return self._deadline is None or time.monotonic() < self._deadline

    def _seconds_to_commit(self) -> float | None:
        """Returns None if nothing waits, or nothing can be written any more."""
        if self._error is not None or not self._writer.pending:
            return None
        return max(0.0, self._last_commit + COMMIT_SECONDS - time.monotonic())

    def _do(self, job: Callable[[], None]) -> None:
        if self._error is not None:
            return
        self._busy_since = time.monotonic()
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        self.seconds += time.monotonic() - self._busy_since
        self._busy_since = None

    def _write(self, trial: _BufferedTrial, record: Record, at: Moment) -> None:
        planned = trial.planned
        if isinstance(record, Ended):
            if trial.on_disk and (saved := self._writer.outbox.load(planned.trial_id)):
                record = saved.records[-1][0]  # With the weights, which memory does not hold.
            self._writer.record(planned, record, at, trial.search)
            self._ended.append(trial)
            return
        if trial.run is None:
            trial.run = self._writer.record(planned, record, at, trial.search)
        else:
            trial.run.add(record, at)
        now = time.monotonic()
        interval = max(FLUSH_SECONDS, FLUSH_SECONDS_PER_RUN * self._writer.open_runs)
        if now - trial.flushed >= interval:
            self._writer.flush(planned)
            trial.flushed = now

    def _commit(self) -> None:
        self._writer.commit()
        for trial in self._ended:
            trial.stored.set()
            trial_id = trial.planned.trial_id
            if trial.on_disk:
                self._writer.outbox.remove(trial_id)
            if self._trials.get(trial_id) is trial:
                del self._trials[trial_id]
        self.trials += len(self._ended)
        self._ended = []
        self._last_commit = time.monotonic()


@dataclass(slots=True)
class _BufferedTrial:
    """A trial whose records are not all in the store.

    flushed: when its curves were last written, by a steady clock. run: its open run. on_disk:
    whether it is in the outbox. stored: set once it has ended and is committed.
    """

    planned: PlannedTrial
    search: Mapping[str, Any]
    flushed: float
    run: TrialRun | None = None
    records: list[TimedRecord] = field(default_factory=list)
    on_disk: bool = False
    stored: threading.Event = field(default_factory=threading.Event)

    @property
    def has_ended(self) -> bool:
        return bool(self.records) and isinstance(self.records[-1][0], Ended)

    @property
    def is_over(self) -> bool:
        """Whether it has ended and is not to be trained again."""
        last = self.records[-1][0]
        return isinstance(last, Ended) and (
            last.outcome in NOT_REPEATED or last.pruned_at is not None
        )
