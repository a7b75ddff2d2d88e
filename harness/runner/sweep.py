"""Runs a sweep: trains what the store has not finished, and wires the executor to the writer."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from typing import Final

from rich.console import Console

from harness.cli.flags import OK, SOME_FAILED
from harness.cli.progress import ProgressState, progress_display
from harness.core.interrupts import Interrupts
from harness.core.paths import data_root
from harness.core.records import FINISHED, NOT_REPEATED, Outcome
from harness.core.system import rare_garbage_collection
from harness.core.text import plural
from harness.execution.executors.base import Executor
from harness.execution.executors.choose import make_executor
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import execute, stacks_of
from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import Trial
from harness.store.coordination.claims import Claims
from harness.store.read.runs import RunSummary
from harness.store.store import Store, latest_runs_without_mlflow, open_store
from harness.store.write.background import BackgroundWriter
from harness.store.write.outbox import Outbox
from harness.store.write.sweep_writer import StoredTrial, SweepWriter, finish

SHOWN_CONFIGS: Final = 10
"""Configs in the comparison at the end; `harness.compare` shows all."""

SearchTags = Mapping[str, Mapping[str, str]]
"""What a search records of trials, by trial id."""


def run(plan: Plan, arguments: argparse.Namespace) -> int:
    """Runs a sweep from its plan to the comparison. Returns the exit code."""
    console = Console()
    executor = open_executor([planned.trial for planned in plan.trials], arguments)
    latest = latest_runs_without_mlflow(plan.experiment.name)
    if latest is not None and _to_train(plan, latest, arguments)[0]:
        executor.prepare()  # Its workers start while this process imports MLflow.
    store = open_store()
    write_outbox(console, store, plan, experiment_checkpoints(store, plan, arguments))
    latest = store.latest_runs(store.experiment(plan.experiment.name))
    todo, stored = _to_train(plan, latest, arguments)
    say(console, _announcement(plan, todo, stored))
    failed = stored.get(Outcome.FAILED, 0)
    if todo:
        failed += train(
            console, store, plan, todo, latest, executor, arguments, rerun=arguments.rerun
        )
    else:
        finish(store, plan)
    if not arguments.no_compare:
        _compare(plan, store, trained=bool(todo))
    return SOME_FAILED if failed else OK


def say(console: Console, lines: Iterable[str]) -> None:
    """Prints lines as they are, without markup, colours or wrapping."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def open_executor(trials: Sequence[Trial], arguments: argparse.Namespace) -> Executor:
    """Returns the executor that a command's flags ask for."""
    return make_executor(
        trials,
        arguments.executor,
        arguments.workers,
        slots=arguments.slots,
        exclusive=arguments.exclusive,
        address=arguments.address,
    )


def experiment_checkpoints(
    store: Store, plan: Plan, arguments: argparse.Namespace, fresh: bool = False
) -> ExperimentCheckpoints:
    """Returns an experiment's checkpoints. fresh: trials start from the beginning."""
    folder = store.checkpoints(store.experiment(plan.experiment.name))
    return ExperimentCheckpoints(folder, arguments.checkpoint_every, fresh)


def write_outbox(
    console: Console, store: Store, plan: Plan, checkpoints: ExperimentCheckpoints, title: str = ""
) -> None:
    """Stores the plan's trials that an earlier process had to leave in the outbox, below a parent
    run of their own. title: the parent's name."""
    waiting = set(Outbox(store.outbox(store.experiment(plan.experiment.name))).trial_ids())
    trials = [planned for planned in plan.trials if planned.trial_id in waiting]
    if not trials:
        return
    goal = plan.experiment.goal
    with SweepWriter(store, plan, goal, trials=len(trials), title=title) as writer:
        written = writer.write_outbox(trials)
        release(writer.stored(), checkpoints)
    if written:
        say(console, [f"written from the outbox: {plural(written, 'trial')}"])


def train(
    console: Console,
    store: Store,
    plan: Plan,
    todo: Sequence[PlannedTrial],
    latest: Mapping[str, RunSummary],
    executor: Executor,
    arguments: argparse.Namespace,
    *,
    rerun: bool = False,
    title: str = "",
    search_tags: SearchTags | None = None,
) -> int:
    """Trains trials of a plan and stores them. Returns how many failed.

    latest: the store's latest runs when `todo` was chosen. rerun: ignore checkpoints. title: the
    parent run's name.
    """
    goal = plan.experiment.goal
    progress = ProgressState(len(todo), goal)
    say(console, [f"training: {executor.description}"])
    checkpoints = experiment_checkpoints(store, plan, arguments, fresh=rerun)
    checkpoints.release_finished({key for key, run in latest.items() if run.outcome in FINISHED})
    stacks, lines = stacks_of(todo, arguments.fuse, executor.slots, checkpoints)
    say(console, lines)
    with (
        nullcontext() if executor.is_local else rare_garbage_collection(),
        Claims(store, store.experiment(plan.experiment.name), latest) as claims,
        Interrupts() as interrupts,
        SweepWriter(store, plan, goal, trials=len(todo), title=title) as runs,
        ExitStack() as once_stored,
        BackgroundWriter(runs, in_step=executor.is_local) as writer,
        progress_display(console, len(todo)) as display,
        # Closed first, however the block is left: training stops before anything else ends.
        closing(
            execute(
                todo,
                executor,
                interrupts,
                data_root(),
                test_outputs=plan.experiment.artifacts != "none",
                claim=claims.take,
                stacks=stacks,
                checkpoints=checkpoints,
            )
        ) as events,
    ):
        claims.share(runs.lease)
        once_stored.callback(lambda: release(runs.stored(), checkpoints, claims))
        for event in events:
            release(writer.stored(), checkpoints, claims)
            if event is None:
                continue
            planned, record = event
            if record is None:
                progress.total -= 1
                continue
            writer.record(planned, record, (search_tags or {}).get(planned.trial_id))
            progress.add(planned, record)
            display.show(progress, planned, record)
    say(console, progress.resumptions())
    if progress.total < len(todo):
        elsewhere = plural(len(todo) - progress.total, "trial")
        say(console, [f"{elsewhere} trained by another process in the meantime"])
    say(console, filter(None, [writer.cost()]))
    return progress.outcomes[Outcome.FAILED]


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


def _compare(plan: Plan, store: Store, trained: bool) -> None:
    """Prints how the plan's trials compare, and where to look next.

    trained: whether this sweep trained any; if so, the whole report is stored with its run.
    """
    from harness.analysis.comparison import Question
    from harness.report.build import build_report
    from harness.report.html import attach_report
    from harness.report.terminal import for_stdout
    from harness.store.read.results import read_results

    name = plan.experiment.name
    results = read_results(store, name, plan.experiment.goal)
    report = build_report(results, Question(top=SHOWN_CONFIGS).of_plan(plan))
    sys.stdout.write("\n" + for_stdout([report]))
    if trained:
        attach_report(store, results, Question().of_plan(plan))
    command = f"python -m harness.compare {shlex.quote(name)}"
    sys.stdout.write(
        f"\nNext: `make ui` shows every run; `{command} --html report.html` draws the report.\n"
    )
