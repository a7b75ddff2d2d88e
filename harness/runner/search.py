"""Runs a search: tunes every study, trains the winners again, and compares them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Final

from rich.console import Console

from harness.analysis.comparison import Question
from harness.cli.flags import OK, SOME_FAILED
from harness.cli.progress import ProgressState, progress_display
from harness.core.interrupts import Interrupts
from harness.core.paths import data_root
from harness.core.records import FINISHED, Ended
from harness.core.text import plural
from harness.experiment.experiment import Experiment, Search
from harness.experiment.plan import Plan
from harness.report.build import build_report
from harness.report.html import attach_report
from harness.report.terminal import for_stdout
from harness.runner.sweep import (
    experiment_checkpoints,
    open_executor,
    release,
    say,
    train,
    write_outbox,
)
from harness.store.read.results import read_results
from harness.store.retry import with_retries
from harness.store.store import Store, open_store
from harness.store.write.background import BackgroundWriter
from harness.store.write.sweep_writer import SweepWriter, finish
from harness.tuning.report import announcement, outcome_lines, write_figures
from harness.tuning.results import StoredResults
from harness.tuning.retraining import RetrainingPlan, plan_retraining, study_result
from harness.tuning.search_loop import SearchLoop
from harness.tuning.stacking import describe_stacking, require_own_clocks, stack_limit
from harness.tuning.storage import Heartbeat, open_storage
from harness.tuning.study import TuningStudy
from harness.tuning.study_plan import StudyPlan
from harness.tuning.study_runs import search_plan, tag_stored_runs

SHOWN_CONFIGS: Final = 20
POLL_SECONDS: Final = 1.0
"""Between two checks of the points that other processes train."""
RETRAINED: Final = "retrain winners"
"""The name of the winners' parent run."""
FIGURES: Final = "figures"
"""User attribute of a study: how many points its figures in MLflow show."""


def run(
    experiment: Experiment,
    search: Search,
    plans: Sequence[StudyPlan],
    arguments: argparse.Namespace,
) -> int:
    """Runs a search from its studies' plans to the comparison. Returns the exit code."""
    if arguments.fuse != "off":
        require_own_clocks(search)
    console = Console()
    store = open_store()
    where = arguments.storage or search.storage
    with open_storage(where, store.home, experiment.name) as opened:
        studies = [TuningStudy(opened, plan, experiment.name) for plan in plans]
        lost = sum(study.recover_lost() for study in studies)
        say(console, announcement(experiment.name, search, studies, lost, opened.label))
        plan = search_plan(experiment, plans, search)
        optuna_studies = [study.optuna_study for study in studies]
        with Heartbeat(optuna_studies) if opened.shared else nullcontext():
            failed = _tune(console, store, plan, studies, arguments)
        winners = [study_result(study) for study in studies]
        say(console, outcome_lines(search, studies, winners))
        retraining = plan_retraining(experiment, studies, winners)
    failed += _retrain(console, store, retraining, arguments)
    if retraining.plan.trials and not arguments.no_compare:
        _compare(store, retraining.plan)
    return SOME_FAILED if failed else OK


def _tune(
    console: Console,
    store: Store,
    plan: Plan,
    studies: Sequence[TuningStudy],
    arguments: argparse.Namespace,
) -> int:
    """Trains until every study has spent its budget. Returns how many points failed."""
    search = studies[0].search
    remaining = {
        study.plan.label: (study.remaining() or 0) * len(search.seeds) for study in studies
    }
    goal = plan.experiment.goal
    with Interrupts() as interrupts, SweepWriter(store, plan, goal, studies=remaining) as runs:
        if any(runs.outbox.trial_ids()):
            trials = [planned for study in studies for planned in study.planned_trials()]
            if written := runs.write_outbox(trials):
                say(console, [f"written from the outbox: {plural(written, 'trial')}"])
            release(runs.stored(), experiment_checkpoints(store, plan, arguments))
        while not _is_done(studies):
            if not all(study.is_over() for study in studies):
                _train_points(console, store, plan, studies, remaining, interrupts, runs, arguments)
                continue
            # Other processes train the last points; those of a process that dies are retried.
            interrupts.check()
            time.sleep(POLL_SECONDS)
            if lost := sum(study.recover_lost() for study in studies):
                say(console, [f"retrying {plural(lost, 'point')} of a process that died"])
        _write_figures(console, store, runs, studies)
    return sum(study.outcome_counts()["failed"] for study in studies)


def _is_done(studies: Sequence[TuningStudy]) -> bool:
    """Whether every study has spent its budget, and no process trains a point of it."""
    return all(study.is_over() and not study.outcome_counts()["running"] for study in studies)


def _train_points(
    console: Console,
    store: Store,
    plan: Plan,
    studies: Sequence[TuningStudy],
    remaining: Mapping[str, int],
    interrupts: Interrupts,
    runs: SweepWriter,
    arguments: argparse.Namespace,
) -> None:
    """Trains points until no study asks for more. remaining: the trials of each study."""
    search, goal = studies[0].search, plan.experiment.goal
    budget = (search.trials or len(studies)) * len(search.seeds)
    trials = [study.plan.base.trial for study in studies for _ in range(budget)]
    executor = open_executor(trials, arguments)
    stacks = stack_limit(arguments.fuse, studies, executor.slots)
    say(console, [f"tuning: {executor.description}"])
    say(console, describe_stacking(stacks, [study.plan for study in studies]))
    latest = store.latest_runs(runs.experiment_id)
    checkpoints = experiment_checkpoints(store, plan, arguments)
    loop = SearchLoop(
        studies,
        executor,
        StoredResults(store, latest, search).find,
        goal,
        interrupts,
        data_root(),
        test_outputs=plan.experiment.artifacts == "all",
        stacks=stacks,
        checkpoints=checkpoints,
    )
    progress = ProgressState(sum(remaining.values()), goal)
    with (
        ExitStack() as once_stored,
        BackgroundWriter(runs, in_step=executor.is_local) as writer,
        progress_display(console, progress.total) as display,
        closing(loop.events()) as events,
    ):
        once_stored.callback(lambda: release(runs.stored(), checkpoints))
        for event in events:
            if event.search is not None:
                writer.record(event.planned, event.record, event.search)
                if isinstance(event.record, Ended):
                    writer.wait_until_safe(event.planned)
                release(writer.stored(), checkpoints)
            progress.add(event.planned, event.record)
            display.show(progress, event.planned, event.record)


def _write_figures(
    console: Console, store: Store, runs: SweepWriter, studies: Sequence[TuningStudy]
) -> None:
    """Stores each study's figures with its parent run, once for each state of the study."""
    for study in studies:
        points = sum(study.outcome_counts().values())
        if not points or study.optuna_study.user_attrs.get(FIGURES) == points:
            continue
        with tempfile.TemporaryDirectory() as folder:
            missing = write_figures(study, Path(folder) / "study")
            run_id = runs.parent(study.plan.label).run_id
            with_retries(
                "store figures",
                lambda: store.client.log_artifacts(run_id, folder),  # noqa: B023 - called at once
            )
        study.optuna_study.set_user_attr(FIGURES, points)
        if missing:
            say(console, [f"study {study.plan.label}: not drawn: {', '.join(missing)}"])


def _retrain(
    console: Console, store: Store, retraining: RetrainingPlan, arguments: argparse.Namespace
) -> int:
    """Trains winners and defaults on fresh seeds, those that the store has not finished, and stores
    the whole report with their parent run. Returns how many trials failed."""
    plan = retraining.plan
    write_outbox(console, store, plan, experiment_checkpoints(store, plan, arguments), RETRAINED)
    latest = store.latest_runs(store.experiment(plan.experiment.name))
    finished = {trial_id for trial_id, run in latest.items() if run.outcome in FINISHED}
    todo = [planned for planned in plan.trials if planned.trial_id not in finished]
    tag_stored_runs(store, retraining, latest)
    if not todo:
        finish(store, plan)
        return 0
    executor = open_executor([planned.trial for planned in plan.trials], arguments)
    say(console, [f"training winners and defaults on fresh seeds: {plural(len(todo), 'trial')}"])
    failed = train(
        console,
        store,
        plan,
        todo,
        latest,
        executor,
        arguments,
        title=RETRAINED,
        search_tags=retraining.search_tags,
    )
    attach_report(store, read_results(store, plan.experiment.name), Question().of_plan(plan))
    return failed


def _compare(store: Store, plan: Plan) -> None:
    """Prints default against tuned on the fresh seeds, and where to look next."""
    question = Question(top=SHOWN_CONFIGS).of_plan(plan)
    results = read_results(store, plan.experiment.name, plan.experiment.goal)
    sys.stdout.write("\n" + for_stdout([build_report(results, question)]))
    sys.stdout.write("\nNext: `make ui` shows every run, and each study's figures at its parent.\n")
