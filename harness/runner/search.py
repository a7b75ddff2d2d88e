"""Runs a search: tunes every study, trains the winners again, and compares them."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from harness.analysis.comparison import Question
from harness.cli.flags import OK, SOME_FAILED
from harness.cli.progress import ProgressState, progress_display
from harness.core.metrics import Goal
from harness.core.paths import data_root
from harness.core.process import Interrupts
from harness.core.records import FINISHED, Ended
from harness.core.text import join_with_and, plural
from harness.experiment.experiment import Experiment, Search
from harness.experiment.plan import Plan
from harness.report.html import attach_report
from harness.runner.sweep import Session, compare, open_executor, release
from harness.store.read.results import read_results
from harness.store.retry import with_retries
from harness.store.store import Store, open_store
from harness.store.write.background import BackgroundWriter
from harness.store.write.sweep_writer import SweepWriter, finish
from harness.tuning.attributes import UNMEASURED
from harness.tuning.report import (
    announcement,
    describe_stacking,
    outcome_lines,
    write_figures,
)
from harness.tuning.results import TrialResult, find_stored_result, tag_stored_runs
from harness.tuning.search_loop import FindResult, SearchLoop, require_own_clocks, stack_limit
from harness.tuning.storage import Heartbeat, open_storage, trainers
from harness.tuning.study import TuningStudy
from harness.tuning.study_plan import StudyPlan, plan_retraining, search_plan

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
    store, retraining, failed = tune(experiment, search, plans, arguments, Console())
    if retraining.trials and not arguments.no_compare:
        hint = "`make ui` shows every run, and each study's figures at its parent."
        compare(store, retraining, SHOWN_CONFIGS, hint)
    return SOME_FAILED if failed else OK


def tune(
    experiment: Experiment,
    search: Search,
    plans: Sequence[StudyPlan],
    arguments: argparse.Namespace,
    console: Console,
    owns_process: bool = True,
) -> tuple[Store, Plan, int]:
    """Tunes every study and trains the winners again. owns_process: see `Interrupts`.

    Returns the store, the plan of the winners, and how many trials failed.
    """
    if arguments.fuse != "off":
        require_own_clocks(search)
    store = open_store()
    plan = search_plan(experiment, plans, search)
    session = Session(console, store, plan, arguments, owns_process=owns_process)
    session.say(session.describe_code())
    where = arguments.storage or search.storage
    with open_storage(where, store.home, store.journal(experiment.name)) as opened:
        studies = [TuningStudy(opened, plan, experiment.name) for plan in plans]
        lost = sum(study.recover_lost() for study in studies)
        session.say(announcement(experiment.name, search, studies, lost, opened.label))
        optuna_studies = [study.optuna_study for study in studies]
        with Heartbeat(optuna_studies) if opened.shared else nullcontext():
            failed = _tune(session, studies)
        session.say(outcome_lines(search, studies))
        winners = [(study.plan, study.tuned()) for study in studies]
    retraining, tags = plan_retraining(experiment, search, winners)
    failed += _retrain(replace(session, plan=retraining, title=RETRAINED, search_tags=tags))
    return store, retraining, failed


def _tune(session: Session, studies: Sequence[TuningStudy]) -> int:
    """Trains until every study has spent its budget. Returns how many points failed."""
    seeds = len(studies[0].search.seeds)
    remaining = {study.plan.label: (study.remaining() or 0) * seeds for study in studies}
    plan, waited_for = session.plan, list[str]()
    with (
        Interrupts(session.owns_process) as interrupts,
        SweepWriter(session.store, plan, plan.experiment.goal, studies=remaining) as runs,
    ):
        if any(runs.outbox.trial_ids()):
            trials = [planned for study in studies for planned in study.planned_trials()]
            session.write_from_outbox(runs, trials)
        while True:
            if not all(study.is_over() for study in studies):
                _train_points(session, studies, sum(remaining.values()), interrupts, runs)
                continue
            if not any(study.outcome_counts()["running"] for study in studies):
                break
            # Other processes train the last points; those of a process that dies are retried.
            interrupts.check()
            others = trainers([study.optuna_study for study in studies])
            if others and others != waited_for:
                waited_for = others
                session.say([f"waiting for points of {join_with_and(others)}"])
            time.sleep(POLL_SECONDS)
            if lost := sum(study.recover_lost() for study in studies):
                session.say([f"retrying {plural(lost, 'point')} of a process that died"])
        _write_figures(session, runs, studies)
    counts = [study.outcome_counts() for study in studies]
    return sum(count["failed"] + count[UNMEASURED] for count in counts)


def _train_points(
    session: Session,
    studies: Sequence[TuningStudy],
    total: int,
    interrupts: Interrupts,
    runs: SweepWriter,
) -> None:
    """Trains points until no study asks for more. total: how many trials the display expects."""
    search, experiment = studies[0].search, session.plan.experiment
    budget = (search.trials or len(studies)) * len(search.seeds)
    trials = [study.plan.base.trial for study in studies for _ in range(budget)]
    executor = open_executor(trials, session.arguments)
    stacks = stack_limit(session.arguments.fuse, studies, executor.slots)
    session.say([f"tuning: {executor.description}"])
    session.say(describe_stacking(stacks, [study.plan for study in studies]))
    checkpoints = session.checkpoints()
    loop = SearchLoop(
        studies,
        executor,
        _result_finder(session, search, shared=studies[0].shared),
        experiment.goal,
        interrupts,
        data_root(),
        test_outputs=experiment.artifacts == "all",
        stacks=stacks,
        checkpoints=checkpoints,
    )
    progress = ProgressState(total, experiment.goal)
    with (
        ExitStack() as once_stored,
        BackgroundWriter(runs, in_step=executor.is_local) as writer,
        progress_display(session.console, total) as display,
        closing(loop.events()) as events,
    ):
        once_stored.callback(lambda: release(runs.stored(), checkpoints))
        for event in events:
            if event.search is not None:
                writer.record(event.planned, event.record, event.search)
                if isinstance(event.record, Ended):
                    writer.wait_until_safe(event.planned)
                release(runs.stored(), checkpoints)
            progress.add(event.planned, event.record)
            display.show(progress, event.planned, event.record)
            if event.search is not None:
                session.stop_at_failure(progress, event.planned, event.record, interrupts)


def _result_finder(session: Session, search: Search, shared: bool) -> FindResult:
    """Returns the function that looks up a trial's result in the store.

    shared: other processes may have stored it since this one started.
    """
    store, latest = session.store, session.latest_runs()

    def find(trial_id: str, goal: Goal) -> TrialResult | None:
        run = latest.get(trial_id)
        if shared and (run is None or run.outcome not in FINISHED):
            run = store.latest_run(session.experiment_id, trial_id)
        return find_stored_result(store, {trial_id: run} if run else {}, search, trial_id, goal)

    return find


def _write_figures(session: Session, runs: SweepWriter, studies: Sequence[TuningStudy]) -> None:
    """Stores each study's figures with its parent run, once for each state of the study."""
    for study in studies:
        points = sum(study.outcome_counts().values())
        if not points or study.optuna_study.user_attrs.get(FIGURES) == points:
            continue
        with tempfile.TemporaryDirectory() as folder:
            missing = write_figures(study, Path(folder) / "study")
            upload = session.store.client.log_artifacts
            run_id = runs.parent(study.plan.label).run_id
            with_retries("store figures", upload, run_id, folder)
        study.optuna_study.set_user_attr(FIGURES, points)
        if missing:
            session.say([f"study {study.plan.label}: not drawn: {', '.join(missing)}"])


def _retrain(session: Session) -> int:
    """Trains winners and defaults on fresh seeds, those that the store has not finished, and stores
    the whole report with their parent run. Returns how many trials failed."""
    store, plan = session.store, session.plan
    session.write_outbox()
    latest = session.latest_runs()
    finished = {trial_id for trial_id, run in latest.items() if run.outcome in FINISHED}
    todo = [planned for planned in plan.trials if planned.trial_id not in finished]
    tag_stored_runs(store, session.experiment_id, session.search_tags, latest)
    if not todo:
        finish(store, plan)
        return 0
    executor = open_executor([planned.trial for planned in plan.trials], session.arguments)
    session.say([f"training winners and defaults on fresh seeds: {plural(len(todo), 'trial')}"])
    failed = session.train(todo, latest, executor)
    attach_report(store, read_results(store, plan.experiment.name), Question().of_plan(plan))
    return failed
