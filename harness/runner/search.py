"""One search from its studies to the comparison: what the command does once its input is good."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

from rich.console import Console

from harness.analysis.comparison import Question
from harness.cli.flags import OK, SOME_FAILED
from harness.cli.progress import ProgressState, progress_display
from harness.core.interrupts import Interrupts
from harness.core.paths import data_root
from harness.core.records import FINISHED, Outcome
from harness.core.text import plural
from harness.execution.executors.base import Executor
from harness.execution.executors.choose import make_executor
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import execute, stacks_of
from harness.experiment.experiment import Experiment, Search
from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import Trial
from harness.report.build import build_report
from harness.report.html import attach_report
from harness.report.terminal import for_stdout
from harness.runner.checkpoints import settle_checkpoints, settled_checkpoints
from harness.store.coordination.claims import Claims
from harness.store.read.results import read_results
from harness.store.read.runs import RunSummary
from harness.store.retry import with_retries
from harness.store.store import Store, open_store
from harness.store.write.background import BackgroundWriter, take_in
from harness.store.write.finish import finish
from harness.store.write.sweep_writer import SweepWriter
from harness.tuning.report import announcement, outcome_lines, write_figures
from harness.tuning.results import StoredResults
from harness.tuning.retraining import RetrainingPlan, plan_retraining, study_result
from harness.tuning.search_loop import Drive
from harness.tuning.stacking import describe_stacking, require_own_clocks, stack_limit
from harness.tuning.storage import Heartbeat, open_storage
from harness.tuning.study import TuningStudy
from harness.tuning.study_plan import StudyPlan
from harness.tuning.study_runs import StudyRuns, TaggingWriter, mark, search_plan

SHOWN_CONFIGS = 20
POLL_SECONDS = 1.0
"""Between two looks at the points of other processes."""
RETRAINED = "retrain winners"
"""What the winners' parent run is called."""
FIGURES = "figures"
"""User attribute of a study: how many points its figures in MLflow show."""


def run(
    experiment: Experiment,
    search: Search,
    plans: Sequence[StudyPlan],
    arguments: argparse.Namespace,
) -> int:
    """Tune, retrain, compare. Returns the exit code."""
    if arguments.fuse != "off":
        require_own_clocks(search)
    console = Console()
    store = open_store()
    where = arguments.storage or search.storage
    with open_storage(where, store.home, experiment.name) as opened:
        studies = [TuningStudy(opened, plan, experiment.name) for plan in plans]
        lost = sum(study.recover_lost() for study in studies)
        _say(console, announcement(experiment.name, search, studies, lost, opened.label))
        plan = search_plan(experiment, plans, search)
        with (
            Heartbeat([study.optuna_study for study in studies]) if opened.shared else nullcontext()
        ):
            failed = _tune(console, store, plan, studies, arguments)
        winners = [study_result(study) for study in studies]
        _say(console, outcome_lines(search, studies, winners))
        retraining = plan_retraining(experiment, studies, winners)
    failed += _retrain(console, store, retraining, arguments)
    if retraining.plan.trials and not arguments.no_compare:
        _compare(store, retraining.plan)
    return SOME_FAILED if failed else OK


def _say(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _engine(trials: Sequence[Trial], arguments: argparse.Namespace) -> Executor:
    return make_executor(
        trials,
        arguments.executor,
        arguments.workers,
        slots=arguments.slots,
        exclusive=arguments.exclusive,
        address=arguments.address,
    )


def _tune(
    console: Console,
    store: Store,
    plan: Plan,
    studies: Sequence[TuningStudy],
    arguments: argparse.Namespace,
) -> int:
    """Run every study to the end of its budget. Returns how many points failed."""
    goal = plan.experiment.goal
    search = studies[0].search
    left = {study.plan.label: (study.remaining() or 0) * len(search.seeds) for study in studies}
    with Interrupts() as interrupts, StudyRuns(store, plan, goal, studies, left) as runs:
        if taken := runs.take_in():
            _say(console, [f"written from the outbox: {plural(taken, 'trial')}"])
        while not _is_done(studies):
            if all(study.is_over() for study in studies):
                # Others have the last points; those of a process that dies are taken over.
                interrupts.check()
                time.sleep(POLL_SECONDS)
                if lost := sum(study.recover_lost() for study in studies):
                    _say(console, [f"{plural(lost, 'point')} of a dead process to be tried again"])
                continue
            budget = (search.trials or len(studies)) * len(search.seeds)
            bases = [study.plan.base.trial for study in studies for _ in range(budget)]
            trainer = _engine(bases, arguments)
            stacks = stack_limit(arguments.fuse, studies, trainer.slots)
            _say(console, [f"tuning: {trainer.description}"])
            _say(console, describe_stacking(stacks, [study.plan for study in studies]))
            stored_results = StoredResults(
                store, store.latest_runs(store.experiment(plan.experiment.name)), search
            )
            checkpoints = _checkpoints(store, plan, arguments)
            with (
                settled_checkpoints(runs, checkpoints),
                BackgroundWriter(runs, in_step=trainer.is_local) as background,
            ):
                drive = Drive(
                    studies,
                    trainer,
                    background,
                    stored_results.find,
                    goal,
                    interrupts,
                    data_root(),
                    test_outputs=plan.experiment.artifacts == "all",
                    stacks=stacks,
                    checkpoints=checkpoints,
                )
                settle = partial(settle_checkpoints, runs, checkpoints)
                _follow(console, drive, ProgressState(sum(left.values()), goal), settle)
        _figures(console, store, runs, studies)
    return sum(study.outcome_counts()["failed"] for study in studies)


def _checkpoints(store: Store, plan: Plan, arguments: argparse.Namespace) -> ExperimentCheckpoints:
    folder = store.checkpoints(store.experiment(plan.experiment.name))
    return ExperimentCheckpoints(folder, arguments.checkpoint_every)


def _is_done(studies: Sequence[TuningStudy]) -> bool:
    """Whether every study has had its budget, and nobody trains a point of it any more."""
    return all(study.is_over() and not study.outcome_counts()["running"] for study in studies)


def _follow(
    console: Console, drive: Drive, tally: ProgressState, settle: Callable[[], None]
) -> None:
    """Show progress until every study is over."""
    with progress_display(console, tally.total) as shown, closing(drive.records()) as records:
        for planned, record in records:
            settle()
            tally.add(planned, record)
            shown.show(tally, planned, record)


def _figures(
    console: Console, store: Store, runs: StudyRuns, studies: Sequence[TuningStudy]
) -> None:
    """Store each study's figures with its parent run, once for each state of the study."""
    for study in studies:
        told = sum(study.outcome_counts().values())
        if not told or study.optuna_study.user_attrs.get(FIGURES) == told:
            continue
        with tempfile.TemporaryDirectory() as name:
            missing = write_figures(study, Path(name) / "study")
            run_id = runs.parent(study.plan.label).run_id
            with_retries("store figures", lambda n=name, r=run_id: store.client.log_artifacts(r, n))  # type: ignore[misc]
        study.optuna_study.set_user_attr(FIGURES, told)
        if missing:
            _say(console, [f"study {study.plan.label}: not drawn: {', '.join(missing)}"])


def _retrain(
    console: Console, store: Store, retraining: RetrainingPlan, arguments: argparse.Namespace
) -> int:
    """Train what the store has not got of the winners, and store the whole report beside them.
    Returns how many trials failed."""
    plan = retraining.plan
    if taken := take_in(store, plan, RETRAINED):
        _say(console, [f"written from the outbox: {plural(taken, 'trial')}"])
    found = store.latest_runs(store.experiment(plan.experiment.name))
    settled = {trial_id for trial_id, info in found.items() if info.outcome in FINISHED}
    todo = [planned for planned in plan.trials if planned.trial_id not in settled]
    mark(store, retraining, found)
    if not todo:
        finish(store, plan)
        return 0
    failed = _train_again(console, store, retraining, todo, found, arguments)
    attach_report(store, read_results(store, plan.experiment.name), Question().of_plan(plan))
    return failed


def _train_again(
    console: Console,
    store: Store,
    retraining: RetrainingPlan,
    todo: Sequence[PlannedTrial],
    found: Mapping[str, RunSummary],
    arguments: argparse.Namespace,
) -> int:
    """Train these trials of winners and defaults. Returns how many failed."""
    plan, goal = retraining.plan, retraining.plan.experiment.goal
    tally = ProgressState(len(todo), goal)
    trainer = _engine([planned.trial for planned in plan.trials], arguments)
    _say(console, [f"training winners and defaults on fresh seeds: {plural(len(todo), 'trial')}"])
    checkpoints = _checkpoints(store, plan, arguments)
    checkpoints.release_finished({key for key, run in found.items() if run.outcome in FINISHED})
    stacks, lines = stacks_of(todo, arguments.fuse, trainer.slots, checkpoints)
    _say(console, lines)
    test_outputs = plan.experiment.artifacts != "none"
    with (
        Claims(store, store.experiment(plan.experiment.name), found) as claims,
        Interrupts() as interrupts,
        SweepWriter(store, plan, goal, trials=len(todo), title=RETRAINED) as writer,
        settled_checkpoints(writer, checkpoints),
        BackgroundWriter(writer, in_step=trainer.is_local) as background,
        progress_display(console, len(todo)) as shown,
        closing(
            execute(
                todo,
                trainer,
                TaggingWriter(background, retraining.search_tags),
                interrupts,
                data_root(),
                test_outputs,
                claims.take,
                stacks,
                checkpoints=checkpoints,
            )
        ) as records,
    ):
        claims.share(writer.lease)
        for planned, record in records:
            settle_checkpoints(writer, checkpoints)
            if record is not None:  # None where another harness has run it meanwhile
                tally.add(planned, record)
                shown.show(tally, planned, record)
    return tally.outcomes[Outcome.FAILED]


def _compare(store: Store, plan: Plan) -> None:
    """Print default against tuned on the fresh seeds, and where to look next."""
    name = plan.experiment.name
    question = Question(top=SHOWN_CONFIGS).of_plan(plan)
    results = read_results(store, name, plan.experiment.goal)
    sys.stdout.write("\n" + for_stdout([build_report(results, question)]))
    sys.stdout.write("\nNext: `make ui` shows every run, and each study's figures at its parent.\n")
