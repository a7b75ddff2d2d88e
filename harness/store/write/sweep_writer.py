"""Writes the trials of a sweep or a search into MLflow: parent runs, and a run for each trial."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import StoreError
from harness.core.files import file_lock
from harness.core.metrics import Goal
from harness.core.records import FINISHED, Ended, Outcome, Record, Started
from harness.core.text import format_value
from harness.experiment.plan import Plan, PlannedTrial
from harness.store import names
from harness.store.artifacts.best_trials import BestTrials, Candidate, PendingOutputs, TrialOutputs
from harness.store.artifacts.trial_files import store_artifacts
from harness.store.coordination.leases import Lease
from harness.store.coordination.processes import ActiveWriter
from harness.store.coordination.stale_runs import clean_up_after_dead_processes
from harness.store.provenance import Moment
from harness.store.store import Store
from harness.store.write.backend import ClientBackend
from harness.store.write.inputs import ParamTable, dataset_input
from harness.store.write.outbox import Outbox
from harness.store.write.parent import ParentRun, common_tags, folder_of
from harness.store.write.sql_backend import Backend, SqlBackend
from harness.store.write.trial_run import RunLog, TrialRun

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredTrial:
    """A trial that ended and whose run is in the store."""

    planned: PlannedTrial
    outcome: Outcome


class SweepWriter:
    """Writes the runs of one sweep or search: `with SweepWriter(store, plan, goal) as writer`.

    It turns records into rows and holds them back until `commit`; `BackgroundWriter` decides when.
    If the block is left by an exception, the open runs end as interrupted, and the parent as KILLED
    (after an interruption) or FAILED. Every method raises StoreError if the store cannot be
    written. Not thread-safe, except `stored`.

    trials: how many are to be trained, by default those of the plan that the store has not
    finished. title: the parent's name, by default its kind. studies: of a search, how many trials
    each study is to train, by its label; a study's parent run is created with its first trial.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        goal: Goal,
        *,
        trials: int | None = None,
        title: str = "",
        studies: Mapping[str, int] | None = None,
    ) -> None:
        self._store, self._plan, self._goal = store, plan, goal
        self._studies = studies
        self.backend: Backend = SqlBackend.of(store) or ClientBackend(store)
        self._tags = common_tags(plan, goal) | {names.TAG_KIND: names.TRIAL}
        self._params = ParamTable(plan)
        self._parents: dict[str, ParentRun] = {}
        self._open: dict[str, tuple[TrialRun, ParentRun]] = {}
        self._ended: set[str] = set()
        self._unfinished: dict[str, str] = {}
        self._uncommitted: list[StoredTrial] = []
        self._beaten: list[Candidate] = []
        self._stored: deque[StoredTrial] = deque()
        self._entered = False
        self.experiment_id = store.experiment(plan.experiment.name)
        clean_up_after_dead_processes(store, self.experiment_id)
        self._active = ActiveWriter(store.writers_file(self.experiment_id))
        self._earlier = store.latest_runs(self.experiment_id)
        self.outbox = Outbox(store.outbox(self.experiment_id))
        spool = PendingOutputs(store.pending_outputs(self.experiment_id))
        self._best_trials = BestTrials(spool, goal, plan.trials, self._earlier)
        if studies is None:
            if trials is None:
                trials = sum(not self.is_finished(planned) for planned in plan.trials)
            self._open_parent("", names.SWEEP, trials, title)

    def __enter__(self) -> SweepWriter:
        self._entered = True
        for parent in self._parents.values():
            parent.lease.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> None:
        try:
            if error is None:
                self.close()
            elif isinstance(error, (KeyboardInterrupt, SystemExit)):
                self.close("KILLED")
            elif not isinstance(error, StoreError):  # A failed store would only hide its reason.
                self.close("FAILED")
        finally:
            for parent in self._parents.values():
                parent.lease.stop()
            self._active.leave()

    @property
    def run_id(self) -> str:
        """The id of the sweep's parent run."""
        return self.parent().run_id

    @property
    def lease(self) -> Lease:
        """The lease of the sweep's parent run."""
        return self.parent().lease

    @property
    def open_runs(self) -> int:
        """The number of trials whose last record has not come."""
        return len(self._open)

    @property
    def pending(self) -> int:
        """The number of rows and ended trials that the next `commit` stores."""
        return self.backend.pending_rows + len(self._uncommitted)

    def parent(self, study: str = "") -> ParentRun:
        """Returns the parent run of the sweep, or of a search's study, created if it is not."""
        if study not in self._parents:
            trials = (self._studies or {})[study]
            self._open_parent(study, names.STUDY, trials, f"study {study}")
        return self._parents[study]

    def record(
        self,
        planned: PlannedTrial,
        record: Record,
        at: Moment | None = None,
        search: Mapping[str, Any] | None = None,
    ) -> TrialRun:
        """Adds a record to its trial's run, which the first record creates and `Ended` closes.

        at: when the record came, by default now. search: what a search records of the trial, for
        tags and provenance (its study, sampler, number, role). Returns the run.
        """
        at = at or Moment.now()
        if planned.trial_id not in self._open:
            if planned.trial_id in self._ended and not isinstance(record, Started | Ended):
                raise ValueError(f"the run of {planned.name!r} has ended")
            self._open_run(planned, at, search or {})
        run, _ = self._open[planned.trial_id]
        if isinstance(record, Ended):
            self._end(planned, record, at)
        else:
            run.add(record, at)
        return run

    def flush(self, planned: PlannedTrial) -> None:
        """Hands the rows of an open run to the backend, so that the next commit has them."""
        run, _ = self._open[planned.trial_id]
        run.log.flush()

    def commit(self) -> None:
        """Stores all rows that the backend has, whole or not at all."""
        self.backend.commit()
        self._stored.extend(self._uncommitted)
        self._uncommitted = []
        for candidate in self._beaten:
            self._best_trials.discard(candidate)
        self._beaten = []

    def stored(self) -> Iterator[StoredTrial]:
        """Yields the trials that ended and were committed since this was last asked."""
        while self._stored:
            yield self._stored.popleft()

    def is_finished(self, planned: PlannedTrial) -> bool:
        """Whether the store had a done or diverged run of the trial when this writer was made."""
        run = self._earlier.get(planned.trial_id)
        return run is not None and run.outcome in FINISHED

    def write_outbox(self, trials: Iterable[PlannedTrial]) -> int:
        """Writes those of `trials` that an earlier process had to leave in the outbox, unless the
        store has finished them. Returns how many it wrote."""
        planned_by_id = {planned.trial_id: planned for planned in trials}
        written = 0
        for unwritten in self.outbox.orphans():
            planned = planned_by_id.get(unwritten.trial_id)
            if planned is None:
                continue  # The experiment file no longer has it, and may have it again.
            if not self.is_finished(planned):
                for record, at in unwritten.records:
                    self.record(planned, record, at, unwritten.search)
                written += 1
            self.commit()
            self.outbox.remove(unwritten.trial_id)
        return written

    def close(self, status: str = "") -> None:
        """Stores the artifacts of the best trials, and ends the parent runs.

        status: "KILLED" or "FAILED" of a sweep that was cut short, which leaves the artifacts to
        the next one. By default FINISHED, or FAILED if a trial failed.
        """
        noun = "sweep" if self._studies is None else "search"
        for run, _ in list(self._open.values()):
            ended = Ended(Outcome.INTERRUPTED, {}, reason=f"the {noun} was interrupted")
            self.record(run.planned, ended)
        self.commit()
        try:
            if not status:
                alone = self._active.is_alone()
                store_best_trials(self._store, self.experiment_id, self._plan, self._goal, alone)
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        except BaseException:
            status = "FAILED"
            raise
        finally:
            for parent in self._parents.values():
                parent.end(status)
            self._active.leave()

    def _open_parent(self, study: str, kind: str, trials: int, title: str) -> None:
        parent = ParentRun(
            self._store, self.experiment_id, self._plan, self._goal, kind, trials, title
        )
        self._parents[study] = parent
        if self._entered:
            parent.lease.start()

    def _open_run(self, planned: PlannedTrial, at: Moment, search: Mapping[str, Any]) -> None:
        """Creates a trial's run, in place of an earlier one that did not finish."""
        parent = self.parent("" if self._studies is None else str(search["study"]))
        tags = self._tags | {
            names.TAG_TRIAL: json.dumps(planned.trial.resolved()),
            names.TAG_IDS: f"{planned.trial_id} {planned.config_id}",
            names.TAG_PARENT: parent.run_id,
        }
        tags |= {
            names.TAG_SEARCH_PREFIX + key: format_value(value) for key, value in search.items()
        }
        if weights := planned.fingerprint.weights:
            tags[names.TAG_WEIGHTS] = names.short_checksum(weights)
        if codes := planned.trial.codes():
            tags[names.TAG_CODE] = json.dumps(codes)
        dataset = dataset_input(planned)
        log = RunLog(self.backend, self.experiment_id, planned.name, tags, at.utc, dataset)
        log.params(self._params.of(planned))
        if planned.trial_id in self._earlier and not self.is_finished(planned):
            self._supersede(self._earlier[planned.trial_id].run_id, by=log.run_id)
        if planned.trial_id in self._unfinished:
            self._supersede(self._unfinished.pop(planned.trial_id), by=log.run_id)
        run = TrialRun(planned, log, self._goal, search, at)
        self._open[planned.trial_id] = run, parent

    def _end(self, planned: PlannedTrial, ended: Ended, at: Moment) -> None:
        run, parent = self._open[planned.trial_id]
        run.end(ended, at, self._artifact_tags(run, ended), folder_of(self._plan))
        del self._open[planned.trial_id]
        self._ended.add(planned.trial_id)
        parent.outcomes[ended.outcome] += 1
        self._uncommitted.append(StoredTrial(planned, ended.outcome))
        if ended.outcome not in FINISHED:
            self._unfinished[planned.trial_id] = run.run_id
        if self.is_finished(planned):
            earlier = self._earlier[planned.trial_id].run_id
            if ended.outcome in FINISHED:
                self._supersede(earlier, by=run.run_id)
            else:  # A rerun that did not finish replaces nothing.
                self._supersede(run.run_id, by=earlier)

    def _artifact_tags(self, run: TrialRun, ended: Ended) -> Mapping[str, str]:
        """Stores what a done trial's figures and model are made from, or its artifacts themselves.
        Returns tags for its run."""
        if ended.outcome is not Outcome.DONE or ended.test_outputs is None:
            return {}
        planned, history = run.planned, tuple(run.history)
        outputs = TrialOutputs(planned.trial_id, run.run_id, history, ended.test_outputs)
        match self._plan.experiment.artifacts:
            case "best":
                try:
                    self._beaten += self._best_trials.offer(planned, outputs)
                except OSError as error:  # Its figures are lost; its results need not be.
                    _logger.warning("%s: its figures cannot be drawn: %s", planned.name, error)
            case "all":
                self.commit()  # MLflow's client uploads files only to a run that is stored.
                return {names.TAG_ARTIFACTS: store_artifacts(self._store, planned, outputs)}
        return {}

    def _supersede(self, run_id: str, by: str) -> None:
        self.backend.write(run_id, tags={names.TAG_SUPERSEDED: by})


def finish(store: Store, plan: Plan) -> None:
    """Completes a sweep that was killed after its last trial: cleans up and stores artifacts."""
    clean_up_after_dead_processes(store, store.experiment(plan.experiment.name))
    finish_artifacts(store, plan, plan.experiment.goal)


def finish_artifacts(store: Store, plan: Plan, goal: Goal) -> int:
    """Stores the artifacts that a sweep that was cut short left in the spool.

    Returns the number of runs. Does nothing while another process writes the experiment, which
    stores them when it ends.
    """
    experiment_id = store.experiment(plan.experiment.name)
    if not any(PendingOutputs(store.pending_outputs(experiment_id)).ids()):
        return 0
    active = ActiveWriter(store.writers_file(experiment_id))
    try:
        alone = active.is_alone()
        return store_best_trials(store, experiment_id, plan, goal, alone) if alone else 0
    finally:
        active.leave()


def store_best_trials(store: Store, experiment_id: str, plan: Plan, goal: Goal, alone: bool) -> int:
    """Stores the artifacts of each group's best trial, whichever process trained it, and removes
    the decided runs from the spool. Returns the number of runs.

    alone: whether no other process writes the experiment, whose files in the spool may be of runs
    that are not stored yet.
    """
    spool = PendingOutputs(store.pending_outputs(experiment_id))
    if not any(spool.ids()):
        return 0
    with file_lock(store.writers_file(experiment_id).with_suffix(".turn")):
        best_trials = BestTrials(spool, goal, plan.trials, store.latest_runs(experiment_id))
        stored = 0
        for winner in best_trials.winners():
            outputs = best_trials.test_outputs(winner)
            if outputs is not None:
                state = store_artifacts(store, winner.planned, outputs)
                store.set_tag(winner.run_id, names.TAG_ARTIFACTS, state)
                stored += 1
        best_trials.clear(alone)
    return stored
