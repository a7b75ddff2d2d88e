"""Runs a sweep: trains what the store has not finished, and wires the executor to the writer."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

from rich.console import Console

from harness.cli.flags import OK, SOME_FAILED
from harness.cli.progress import ProgressState, print_line, progress_display
from harness.components.registry import activate
from harness.core.errors import InputError
from harness.core.paths import data_root
from harness.core.process import Interrupts, rare_garbage_collection
from harness.core.records import FINISHED, NOT_REPEATED, Ended, Outcome, Record
from harness.core.text import join_with_and, plural
from harness.execution.devices import (
    available_cores,
    available_gpus,
    device_slots,
    require_devices,
)
from harness.execution.executors.base import Executor
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.process import ProcessExecutor
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import execute, stacks_of
from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import Trial
from harness.store.coordination.claims import Claims
from harness.store.coordination.waiting import Waiting
from harness.store.read.code_versions import count_runs_of_other_code
from harness.store.read.runs import RunSummary
from harness.store.store import Store, latest_runs_without_mlflow, open_store
from harness.store.write.background import BackgroundWriter
from harness.store.write.outbox import Outbox
from harness.store.write.sweep_writer import StoredTrial, SweepWriter, finish

SHOWN_CONFIGS: Final = 10
"""Configs in the comparison at the end; `harness.compare` shows all."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did. trained: how many trials. failed: how many trials of the plan failed, those
    of earlier sweeps included."""

    store: Store
    trained: int
    failed: int


def run(plan: Plan, arguments: argparse.Namespace) -> int:
    """Runs a sweep from its plan to the comparison. Returns the exit code."""
    swept = sweep(plan, arguments, Console())
    if not arguments.no_compare:
        command = f"python -m harness.compare {shlex.quote(plan.experiment.name)}"
        hint = f"`make ui` shows every run; `{command} --html report.html` draws the report."
        compare(swept.store, plan, SHOWN_CONFIGS, hint, attach=bool(swept.trained))
    return SOME_FAILED if swept.failed else OK


def sweep(
    plan: Plan, arguments: argparse.Namespace, console: Console, owns_process: bool = True
) -> Swept:
    """Trains what the store has not finished of a plan. owns_process: see `Interrupts`."""
    executor = open_executor([planned.trial for planned in plan.trials], arguments)
    latest = latest_runs_without_mlflow(plan.experiment.name)
    if latest is not None and _to_train(plan, latest, arguments)[0]:
        executor.prepare()  # Its workers start while this process imports MLflow.
    session = Session(console, open_store(), plan, arguments, owns_process=owns_process)
    session.write_outbox()
    latest = session.latest_runs()
    todo, stored = _to_train(plan, latest, arguments)
    if todo and plan.experiment.source.identities:
        from harness.training.model_check import require_models

        activate(plan.experiment.code)
        require_models((planned.trial for planned in todo), data_root())
    session.say(session.describe_code())
    session.say(_announcement(plan, todo, stored))
    failed = stored.get(Outcome.FAILED, 0)
    if todo:
        failed += session.train(todo, latest, executor, rerun=arguments.rerun)
    else:
        finish(session.store, plan)
    return Swept(session.store, len(todo), failed)


def open_executor(trials: Sequence[Trial], arguments: argparse.Namespace) -> Executor:
    """Returns the executor that a command's flags ask for: if none is named, this process if one
    trial trains at a time, else worker processes.

    trials: all trials of a plan, so that the remaining trials train after an interruption with as
    many threads as before. Raises InputError if the flags contradict each other.
    """
    name, workers = arguments.executor, arguments.workers
    if arguments.address is not None and name != "ray":
        raise InputError("--address is of a Ray cluster: it needs --executor ray")
    if name == "ray":
        return _ray_executor(arguments)
    if name == "inline" and (workers or 1) > 1:
        raise InputError("--executor inline trains one trial at a time: leave --workers out")
    devices = [trial.device for trial in trials]
    gpus = available_gpus() if any(device != "cpu" for device in devices) else ()
    require_devices(devices, gpus)
    chosen = device_slots(
        devices, gpus, available_cores(), workers, arguments.slots, arguments.exclusive
    )
    trains_several = sum(device.count for device in chosen) > 1
    if name == "inline" or (name is None and not trains_several):
        return InlineExecutor()
    imports = [module for trial in trials for module in trial.dataset.component.imports]
    return ProcessExecutor(chosen, tuple(dict.fromkeys(imports)))


def _ray_executor(arguments: argparse.Namespace) -> Executor:
    from harness.execution.executors.ray import RayExecutor

    if arguments.exclusive:
        raise InputError(
            "--exclusive: on a Ray cluster other work may train on the same cores; "
            "leave --executor ray out"
        )
    return RayExecutor(arguments.address, slots=arguments.slots, limit=arguments.workers)


@dataclass(frozen=True, slots=True)
class Session:
    """Trains a plan's trials and stores them, as a command's flags say.

    title: the name of the parent runs. search_tags: what a search records of trials, by trial id.
    owns_process: see `Interrupts`.
    """

    console: Console
    store: Store
    plan: Plan
    arguments: argparse.Namespace
    title: str = ""
    search_tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    owns_process: bool = True

    def say(self, lines: Iterable[str]) -> None:
        """Prints lines as they are, without markup, colours or wrapping."""
        for line in lines:
            print_line(self.console, line)

    @property
    def experiment_id(self) -> str:
        return self.store.experiment(self.plan.experiment.name)

    def latest_runs(self) -> dict[str, RunSummary]:
        """Returns the latest run of each of the experiment's trials, by trial id."""
        return self.store.latest_runs(self.experiment_id)

    def describe_code(self) -> list[str]:
        """Returns which code of the user's runs, and which stored runs are of other code."""
        plan = self.plan
        if not plan.experiment.source.identities:
            return []
        changed = count_runs_of_other_code(self.store, self.experiment_id, plan.trials)
        return [
            f"running code: {plan.experiment.source.describe()}",
            *(
                f"the code of {join_with_and(f'`{n}`' for n in changed if changed[n] == count)} "
                f"changed since {plural(count, 'run')}: "
                f"{'they are' if count > 1 else 'it is'} kept, and not compared"
                for count in dict.fromkeys(changed.values())
            ),
        ]

    def checkpoints(self, fresh: bool = False) -> ExperimentCheckpoints:
        """Returns the experiment's checkpoints. fresh: trials start from the beginning."""
        folder = self.store.checkpoints(self.experiment_id)
        return ExperimentCheckpoints(folder, self.arguments.checkpoint_every, fresh)

    def write_outbox(self) -> None:
        """Stores the plan's trials that an earlier process had to leave in the outbox, below a
        parent run of their own."""
        waiting = set(Outbox(self.store.outbox(self.experiment_id)).trial_ids())
        trials = [planned for planned in self.plan.trials if planned.trial_id in waiting]
        if trials:
            with self.open_writer(len(trials)) as runs:
                self.write_from_outbox(runs, trials)

    def write_from_outbox(self, runs: SweepWriter, trials: Sequence[PlannedTrial]) -> None:
        """Stores those of the trials that wait in the outbox."""
        if count := runs.write_outbox(trials):
            self.say([f"written from the outbox: {plural(count, 'trial')}"])
        release(runs.stored(), self.checkpoints())

    def open_writer(self, trials: int) -> SweepWriter:
        """Returns the writer of a sweep of so many trials."""
        goal = self.plan.experiment.goal
        return SweepWriter(self.store, self.plan, goal, trials=trials, title=self.title)

    def train(
        self,
        todo: Sequence[PlannedTrial],
        latest: Mapping[str, RunSummary],
        executor: Executor,
        rerun: bool = False,
    ) -> int:
        """Trains trials of the plan and stores them. Returns how many failed.

        latest: the store's latest runs when `todo` was chosen. rerun: ignore checkpoints.
        """
        # Another file may have been read since the plan was made.
        activate(self.plan.experiment.code)
        progress = ProgressState(len(todo), self.plan.experiment.goal)
        self.say([f"training: {executor.description}"])
        checkpoints = self.checkpoints(fresh=rerun)
        finished = {trial_id for trial_id, run in latest.items() if run.outcome in FINISHED}
        checkpoints.release_finished(finished)
        stacks, lines = stacks_of(todo, self.arguments.fuse, executor.slots, checkpoints)
        self.say(lines)
        waiting = Waiting(self.store, self.experiment_id, lambda line: self.say([line]))
        with (
            nullcontext() if executor.is_local else rare_garbage_collection(),
            Claims(self.store, self.experiment_id, latest) as claims,
            Interrupts(self.owns_process) as interrupts,
            self.open_writer(len(todo)) as runs,
            ExitStack() as once_stored,
            BackgroundWriter(runs, in_step=executor.is_local) as writer,
            progress_display(self.console, len(todo)) as display,
            # Closed first, however the block is left: training stops before anything else ends.
            closing(
                execute(
                    todo,
                    executor,
                    interrupts,
                    data_root(),
                    test_outputs=self.plan.experiment.artifacts != "none",
                    claim=claims.take,
                    stacks=stacks,
                    checkpoints=checkpoints,
                    waiting=waiting.look,
                    metric=self.plan.experiment.metric,
                )
            ) as events,
        ):
            claims.share(runs.lease)
            once_stored.callback(lambda: release(runs.stored(), checkpoints, claims))
            for event in events:
                release(runs.stored(), checkpoints, claims)
                if event is None:
                    continue
                planned, record = event
                if record is None:
                    progress.total -= 1
                    continue
                writer.record(planned, record, self.search_tags.get(planned.trial_id))
                progress.add(planned, record)
                display.show(progress, planned, record)
                self.stop_at_failure(progress, planned, record, interrupts)
        self.say(progress.resumptions())
        if elsewhere := len(todo) - progress.total:
            self.say([f"{plural(elsewhere, 'trial')} trained by another process in the meantime"])
        self.say(filter(None, [writer.cost()]))
        return progress.outcomes[Outcome.FAILED]

    def stop_at_failure(
        self,
        progress: ProgressState,
        planned: PlannedTrial,
        record: Record,
        interrupts: Interrupts,
    ) -> None:
        """With `--fail-fast`, interrupts training at a trial that failed."""
        if not self.arguments.fail_fast or not isinstance(record, Ended):
            return
        if record.outcome is Outcome.FAILED:
            # A search trains a point that failed no more.
            is_repeatable = "retry_failed" in self.arguments
            again = ", and with --retry-failed this one too" if is_repeatable else ""
            interrupts.stop(
                f"stopped at the first failure: {planned.name}: {record.reason}\n"
                f"    {progress.ended} of {plural(progress.total, 'trial')} ended; "
                f"the same command trains the others{again}"
            )


def release(
    stored: Iterable[StoredTrial], checkpoints: ExperimentCheckpoints, claims: Claims | None = None
) -> None:
    """Gives up the checkpoints and claims of trials whose runs are in the store. Until then, a
    process that is killed needs them to resume."""
    for trial in stored:
        if trial.outcome in FINISHED:
            checkpoints.finish(trial.planned, done=trial.outcome is Outcome.DONE)
        if claims is not None:
            claims.release(trial.planned)


def _to_train(
    plan: Plan, latest: Mapping[str, RunSummary], arguments: argparse.Namespace
) -> tuple[list[PlannedTrial], dict[Outcome, int]]:
    """Returns the trials to train, and how many are not trained, by their outcome in the store."""
    runs = {} if arguments.rerun else latest
    outcomes = FINISHED if arguments.retry_failed else NOT_REPEATED
    todo, stored = [], dict.fromkeys(outcomes, 0)
    for planned in plan.trials:
        run = runs.get(planned.trial_id)
        if run is not None and run.outcome in outcomes:
            stored[run.outcome] += 1
        else:
            todo.append(planned)
    return todo, stored


def _announcement(
    plan: Plan, todo: Sequence[PlannedTrial], stored: Mapping[Outcome, int]
) -> list[str]:
    text = f"{plan.experiment.name}: {plural(len(plan.trials), 'trial')}"
    if plan.skipped:
        text += f" ({plural(len(plan.skipped), 'combination')} skipped)"
    counts = ", ".join(f"{count} {outcome}" for outcome, count in stored.items() if count)
    text += f"; already in the store: {counts}" if counts else ""
    text += f"; {len(todo)} to run" if todo else "; nothing to run"
    if stored.get(Outcome.FAILED):
        return [text, "--retry-failed runs the failed ones again"]
    return [text]


def compare(store: Store, plan: Plan, top: int, hint: str, attach: bool = False) -> None:
    """Prints how the plan's trials compare, and where to look next.

    top: how many configs to show. attach: whether to store the whole report with the sweep's run.
    """
    from harness.analysis.comparison import Question
    from harness.report.html import attach_report
    from harness.report.section import build_report
    from harness.report.terminal import for_stdout
    from harness.store.read.results import read_results

    results = read_results(store, plan.experiment.name, plan.experiment.goal)
    question = Question().of_plan(plan)
    report = build_report(results, replace(question, top=top))
    sys.stdout.write("\n" + for_stdout([report]))
    if attach:
        attach_report(store, results, question)
    sys.stdout.write(f"\nNext: {hint}\n")
