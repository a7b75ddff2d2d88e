"""Writes a sweep's records in a thread of its own, so that training never waits for the store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Protocol

from harness.core.errors import StoreUnreachable
from harness.core.records import NOT_REPEATED, Ended, Record
from harness.experiment.plan import Plan, PlannedTrial
from harness.store.retry import retry_while
from harness.store.store import Store
from harness.store.write.outbox import Outbox, Timed
from harness.store.write.run_log import Moment
from harness.store.write.sinks import Sink
from harness.store.write.sweep_writer import SweepWriter
from harness.store.write.trial_run import TrialRun

STUCK_SECONDS = 10.0
"""A write that takes longer means that the store does not answer: trials that end go to disk."""

FAREWELL_SECONDS = 60.0
"""How long a sweep whose training is over waits for a store that does not answer."""

MOST_PENDING = 2000
"""Records that may wait to be written. Where trials measure faster than the store can write,
training waits for it: memory is bounded, and an interruption never has long to write."""

WINDOW_SECONDS = 0.5
"""Between two commits, where the sink writes many runs at once: what comes alone is written at
once, and of a burst of short trials each commit takes all that came meanwhile."""

MOST_ROWS = 40_000
"""Rows that a commit may hold: some twenty MB, and some tenths of a second."""

SETTLE_SECONDS = 0.1
"""Between two looks at whether the store answers."""

_logger = logging.getLogger(__name__)
"""Outcomes that training again would only repeat."""

Job = Callable[[], None]


class TrialWriter(Protocol):
    """Opens a trial's run in the store; a `SweepWriter`, or whatever chooses among several."""

    batching: bool

    @property
    def outbox(self) -> Outbox: ...

    @property
    def sink(self) -> Sink: ...

    def planned(self, trial_id: str) -> PlannedTrial | None: ...

    def is_finished(self, planned: PlannedTrial) -> bool: ...

    def start_trial(
        self,
        planned: PlannedTrial,
        sampler: Mapping[str, Any] | None = None,
        at: Moment | None = None,
    ) -> TrialRun: ...


class BackgroundWriter:
    """A SweepWriter's trials, written by one thread in the order of their records.

    `with BackgroundWriter(writer) as background`: leaving the block waits until all is written,
    also where it is left by an exception. A store that does not answer is asked again for as long
    as training goes on, and `FAREWELL_SECONDS` more; meanwhile each trial that ends is kept whole
    in the outbox, from where `replay` writes it in a later process if this one dies or gives up.

    in_step: wait for each write, unless the store does not answer. For training in this very
    process, whose clocks a second thread would disturb.
    Methods raise what the thread could not write. To be called from one thread.
    """

    def __init__(self, writer: TrialWriter, in_step: bool = False) -> None:
        self.seconds = 0.0
        self.trials = 0
        self._writer = writer
        self._in_step = in_step
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
        self._since: float | None = None
        self._deadline: float | None = None
        self._error: BaseException | None = None
        self._committed = float("-inf")
        self._unwritten: dict[int, BackgroundRun] = {}

    def __enter__(self) -> BackgroundWriter:
        self._writer.batching = True
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deadline = time.monotonic() + FAREWELL_SECONDS
        self._jobs.put(None)
        if self.is_stuck():
            _logger.warning("waiting for the store to answer (at most %.0f s)", FAREWELL_SECONDS)
        try:
            self._thread.join()
        except KeyboardInterrupt:  # A second one ends the process; the first cuts no write.
            self._thread.join()
            raise
        finally:
            self._writer.batching = False
            self._leave_rest()
        if error is None:
            self.check()

    def start_trial(
        self, planned: PlannedTrial, sampler: Mapping[str, Any] | None = None
    ) -> BackgroundRun:
        """As `SweepWriter.start_trial`."""
        run = BackgroundRun(planned, self, self._writer.outbox, Moment.now(), sampler or {})
        self._unwritten[id(run)] = run
        self.put(lambda: run.open(self._writer))
        return run

    def commit(self) -> None:
        """Have the thread write now what it would gather for a while."""
        if self._writer.batching:
            self.put(self._writer.sink.commit)

    def after(self, job: Job) -> None:
        """Do a job once all before it is in the store. In the writer's thread."""
        self._writer.sink.after(job)

    def wrote(self, run: BackgroundRun) -> None:
        """A run's last record is in the store. In the writer's thread."""
        self.trials += 1
        del self._unwritten[id(run)]

    def is_stuck(self) -> bool:
        """Whether the store does not answer."""
        since = self._since
        return since is not None and time.monotonic() - since > STUCK_SECONDS

    def cost(self) -> str:
        """What writing took, for people; empty before a trial is written."""
        if not self.trials:
            return ""
        return f"MLflow: {1000 * self.seconds / self.trials:.0f} ms a trial"

    def put(self, job: Job) -> None:
        """Have the thread do a job after those before it."""
        self.check()
        while self._jobs.qsize() >= MOST_PENDING and not self.is_stuck() and self._error is None:
            time.sleep(0.005)
        self._jobs.put(job)
        if self._in_step:
            done = threading.Event()
            self._jobs.put(done.set)
            while not (self._error or self.is_stuck() or done.wait(0.1)):
                pass
            self.check()

    def check(self) -> None:
        """Raise what the thread could not write."""
        if self._error is not None:
            raise self._error

    def _write(self) -> None:
        with retry_while(self._has_time):
            while True:
                try:
                    job = self._jobs.get(timeout=self._due())
                except Empty:
                    self._commit()
                    continue
                if job is None:
                    self._commit()
                    return
                self._do(job)
                if self._due() == 0.0 or self._writer.sink.waiting >= MOST_ROWS:
                    self._commit()

    def _due(self) -> float | None:
        """Seconds until what waits is to be written; None where nothing waits, or can be."""
        if self._error is not None or not self._writer.sink.waiting:
            return None
        return max(0.0, self._committed + WINDOW_SECONDS - time.monotonic())

    def _commit(self) -> None:
        self._do(self._writer.sink.commit)
        self._committed = time.monotonic()

    def _do(self, job: Job) -> None:
        if self._error is not None:
            return
        self._since = time.monotonic()
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        self.seconds += time.monotonic() - self._since
        self._since = None

    def _leave_rest(self) -> None:
        """Put on disk what ended and was never written, for `replay`."""
        if not isinstance(self._error, StoreUnreachable):
            return
        left = sum(run.leave() for run in self._unwritten.values())
        if left:
            self._error = StoreUnreachable(
                f"{self._error}\n{left} trials that ended wait in {self._writer.outbox.folder}: "
                "run the same command again once the store answers, and it takes them in"
            )

    def _has_time(self) -> bool:
        return self._deadline is None or time.monotonic() < self._deadline


@dataclass(slots=True)
class BackgroundRun:
    """A trial's run that another thread opens and writes."""

    planned: PlannedTrial
    background: BackgroundWriter
    outbox: Outbox
    started: Moment
    sampler: Mapping[str, Any] = field(default_factory=dict)
    _run: TrialRun | None = None
    _records: list[Timed] = field(default_factory=list)
    _on_disk: bool = False
    _closed: threading.Event = field(default_factory=threading.Event)

    def record(self, record: Record) -> None:
        """Hand a record over. Where the store does not answer, a trial that ends is first put on
        disk, whole."""
        at = Moment.now()
        self._records.append((record, at))
        if isinstance(record, Ended) and self.background.is_stuck() and self.leave():
            # Memory does not hold the weights while nothing can be written.
            record = replace(record, test_outputs=None)
            self._records[-1] = (record, at)
        self.background.put(lambda: self._write(record, at))

    def settle(self) -> None:
        """Wait until the trial, which has ended, is safe: in the store or, where that does not
        answer, on disk."""
        self.background.commit()
        while not self._closed.wait(SETTLE_SECONDS):
            self.background.check()
            if self.background.is_stuck() and self.leave():
                break
        if self._on_disk and self._closed.is_set():  # The store answered meanwhile.
            self.outbox.remove(self.planned.trial_id)

    def open(self, writer: TrialWriter) -> None:
        """In the writer's thread."""
        self._run = writer.start_trial(self.planned, self.sampler, self.started)

    def leave(self) -> bool:
        """Put the trial on disk where it has ended; whether it lies there."""
        last = self._records[-1][0] if self._records else None
        if not self._on_disk and isinstance(last, Ended) and _is_over(last):
            try:
                self.outbox.put(self.planned.trial_id, self.started, self._records, self.sampler)
                self._on_disk = True
            except OSError as error:
                _logger.warning("%s cannot be kept on disk: %s", self.planned.name, error)
        return self._on_disk

    def _write(self, record: Record, at: Moment) -> None:
        if self._run is None:
            raise StoreUnreachable(f"the run of {self.planned.name!r} was never opened")
        if isinstance(record, Ended) and self._on_disk:
            kept = self.outbox.take(self.planned.trial_id)
            record = kept.records[-1][0] if kept is not None else record
        self._run.record(record, at)
        if isinstance(record, Ended):
            self.background.after(self._written)

    def _written(self) -> None:
        self._closed.set()
        if self._on_disk:
            self.outbox.remove(self.planned.trial_id)
        self.background.wrote(self)


def _is_over(ended: Ended) -> bool:
    """Whether the trial is not to be trained again."""
    return ended.outcome in NOT_REPEATED or ended.pruned_at is not None


def take_in(store: Store, plan: Plan, title: str = "") -> int:
    """Write the plan's trials that an earlier process had to leave in the outbox, below a parent
    run of their own. Returns how many; 0 at once where there are none."""
    wanted = {planned.trial_id for planned in plan.trials}
    held = Outbox(store.outbox(store.experiment(plan.experiment.name))).held()
    waiting = sum(trial_id in wanted for trial_id in held)
    if not waiting:
        return 0
    goal = plan.experiment.goal
    with SweepWriter(store, plan, goal, trials=waiting, title=title) as writer:
        return replay(writer)


def replay(writer: TrialWriter) -> int:
    """Write the trials that an earlier process had to leave in the outbox, unless they stand in
    the store. Returns how many it wrote."""
    written = 0
    for kept in writer.outbox.orphans():
        planned = writer.planned(kept.trial_id)
        if planned is None:
            continue  # Of the experiment as its file was; it may come back.
        if not writer.is_finished(planned):
            run = writer.start_trial(planned, kept.sampler, kept.started)
            for record, at in kept.records:
                run.record(record, at)
            written += 1
        writer.sink.commit()
        writer.outbox.remove(kept.trial_id)
    return written
