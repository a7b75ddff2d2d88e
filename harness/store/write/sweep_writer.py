"""Writes a sweep into MLflow: a parent run, and a child run for each trial."""

from __future__ import annotations

import json
import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from harness.core.errors import StoreError
from harness.core.metrics import Goal
from harness.core.records import FINISHED, Ended, Outcome
from harness.core.text import format_value
from harness.experiment.plan import Plan, PlannedTrial
from harness.store import names
from harness.store.artifacts.best_trials import BestTrials
from harness.store.artifacts.trial_files import store_artifacts
from harness.store.artifacts.trial_outputs import PendingOutputs, TrialOutputs
from harness.store.coordination.leases import Lease
from harness.store.coordination.processes import ActiveWriter
from harness.store.coordination.stale_runs import clean_up_after_dead_processes
from harness.store.store import Store
from harness.store.write.datasets import DatasetInputs
from harness.store.write.finish import store_kept
from harness.store.write.outbox import Outbox
from harness.store.write.params import ParamTable
from harness.store.write.parent import common_tags, folder_of, start_parent
from harness.store.write.run_log import Moment, RunLog
from harness.store.write.sinks import Sink, open_sink
from harness.store.write.trial_run import Shared, TrialRun

_logger = logging.getLogger(__name__)


class SweepWriter:
    """The one writer of a sweep or study: `with SweepWriter(store, plan, goal) as writer`.

    kind: `names.SWEEP` or `names.STUDY`. trials: how many will run; by default those of the plan
    that the store has not finished. title: what to call the parent run, by default its kind. Where
    the block is left by an exception, the open trials are written as interrupted, and the parent as
    KILLED (an interruption) or FAILED. batching: whether runs stand in the store only after
    `sink.commit()`, many at once, or as soon as they are opened, and again when they end. sink: one
    that several writers share; by default its own. Not thread-safe. Every method raises StoreError
    where the store cannot be written.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        goal: Goal,
        *,
        kind: str = names.SWEEP,
        trials: int | None = None,
        title: str = "",
        sink: Sink | None = None,
    ) -> None:
        self._store = store
        self._sweep, self._goal = plan, goal
        self._artifacts = plan.experiment.artifacts
        self.sink = sink or open_sink(store)
        self.batching = False
        self._tags = common_tags(plan, goal) | {names.TAG_KIND: names.TRIAL}
        self._columns = ParamTable(plan)
        self._datasets = DatasetInputs()
        self._outcomes: Counter[Outcome] = Counter()
        self._open: dict[str, TrialRun] = {}
        self._unfinished: dict[str, str] = {}
        self.experiment_id = store.experiment(plan.experiment.name)
        clean_up_after_dead_processes(store, self.experiment_id)
        self._presence = ActiveWriter(store.writers_file(self.experiment_id))
        self._earlier = store.latest_runs(self.experiment_id)
        self._plan = {planned.trial_id: planned for planned in plan.trials}
        self.outbox = Outbox(store.outbox(self.experiment_id))
        self._stored: deque[tuple[PlannedTrial, Outcome]] = deque()
        self._shared = Shared(
            goal,
            folder_of(plan),
            self._datasets.fingerprint,
            self._keep,
            self._closed,
            self._settle,
        )
        spool = PendingOutputs(store.pending_outputs(self.experiment_id))
        self._keeper = BestTrials(spool, goal, plan.trials, self._earlier)
        if trials is None:
            trials = sum(not self.is_finished(planned) for planned in plan.trials)
        self._parent = start_parent(store, self.experiment_id, plan, goal, kind, trials, title)
        self.lease = Lease(store, self.experiment_id, self._parent.run_id)

    @property
    def run_id(self) -> str:
        """The parent run's."""
        return self._parent.run_id

    def __enter__(self) -> SweepWriter:
        self.lease.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.close()
            elif isinstance(error, (KeyboardInterrupt, SystemExit)):
                self.close("KILLED")
            elif not isinstance(error, StoreError):  # A failed store would only hide its reason.
                self.close("FAILED")
        finally:
            self.lease.stop()
            self._presence.leave()

    def start_trial(
        self,
        planned: PlannedTrial,
        sampler: Mapping[str, Any] | None = None,
        at: Moment | None = None,
    ) -> TrialRun:
        """Open a trial's run. sampler: of a search, for tags and provenance (its study, its name,
        the trial's number there). at: when it began, by default now. It supersedes an earlier run
        of the trial that did not finish."""
        at = at or Moment.now()
        tags = self._tags | {
            names.TAG_TRIAL: json.dumps(planned.trial.resolved()),
            names.TAG_IDS: f"{planned.trial_id} {planned.config_id}",
            "mlflow.parentRunId": self.run_id,
        }
        tags |= {
            names.TAG_SEARCH_PREFIX + key: format_value(v) for key, v in (sampler or {}).items()
        }
        log = RunLog(
            self.sink,
            self.experiment_id,
            planned.name,
            tags,
            at.utc,
            self._datasets.input(planned),
        )
        log.params(self._columns.of(planned))
        if planned.trial_id in self._earlier and not self.is_finished(planned):
            self._supersede(self._earlier[planned.trial_id].run_id, by=log.run_id)
        if planned.trial_id in self._unfinished:
            self._supersede(self._unfinished.pop(planned.trial_id), by=log.run_id)
        run = TrialRun(planned, log, self._shared, sampler or {}, at)
        self._open[run.run_id] = run
        self._shared.open_runs = len(self._open)
        self._settle()
        return run

    def close(self, status: str | None = None) -> None:
        """Store what was kept of the best trials, and end the parent run.

        status: "KILLED" or "FAILED" of a sweep that was cut short; it leaves what was kept for the
        next. By default FINISHED, or FAILED where a trial failed.
        """
        for run in list(self._open.values()):
            run.record(Ended(Outcome.INTERRUPTED, {}, reason="the sweep was interrupted"))
        self.sink.commit()
        try:
            if status is None:
                alone = self._presence.is_alone()
                store_kept(self._store, self.experiment_id, self._sweep, self._goal, alone)
                status = "FAILED" if self._outcomes[Outcome.FAILED] else "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            for outcome in Outcome:
                self._parent.metrics({f"trials/{outcome.value}": self._outcomes[outcome]}, 0)
            self._parent.end(status or "FAILED")
            self._presence.leave()

    def stored(self) -> Iterator[tuple[PlannedTrial, Outcome]]:
        """Yields the trials that ended and whose runs were committed since this was last asked."""
        while self._stored:
            yield self._stored.popleft()

    def planned(self, trial_id: str) -> PlannedTrial | None:
        """The plan's trial of this id."""
        return self._plan.get(trial_id)

    def is_finished(self, planned: PlannedTrial) -> bool:
        """Whether the trial stood in the store, done or diverged, when this writer was made."""
        run = self._earlier.get(planned.trial_id)
        return run is not None and run.outcome in FINISHED

    def _keep(self, planned: PlannedTrial, kept: TrialOutputs) -> Mapping[str, str]:
        match self._artifacts:
            case "best":
                try:
                    self._keeper.offer(planned, kept, self.sink.after)
                except OSError as error:  # Its figures are lost, its results need not be.
                    _logger.warning("%s: nothing is kept for figures: %s", planned.name, error)
            case "all":
                self.sink.commit()  # The client asks the store for the run that files are for.
                return {names.TAG_ARTIFACTS: store_artifacts(self._store, planned, kept)}
        return {}

    def _closed(self, planned: PlannedTrial, run_id: str, outcome: Outcome) -> None:
        self._outcomes[outcome] += 1
        self.sink.after(lambda: self._stored.append((planned, outcome)))
        del self._open[run_id]
        self._shared.open_runs = len(self._open)
        self.sink.after(lambda: self.lease.release(planned.trial_id))
        if outcome not in FINISHED:
            self._unfinished[planned.trial_id] = run_id
        if self.is_finished(planned):
            earlier = self._earlier[planned.trial_id].run_id
            if outcome in FINISHED:
                self._supersede(earlier, by=run_id)
            else:
                self._supersede(
                    run_id, by=earlier
                )  # A rerun that came to nothing replaces nothing.

    def _supersede(self, run_id: str, by: str) -> None:
        self.sink.write(run_id, tags={names.TAG_SUPERSEDED: by})

    def _settle(self) -> None:
        if not self.batching:
            self.sink.commit()
