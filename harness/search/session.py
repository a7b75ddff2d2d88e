"""One search from its studies to the comparison: what the command does once its input is good."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from harness.analysis.comparison import Question
from harness.cli import OK, SOME_FAILED
from harness.dispatch.checkpoints import CheckpointRoom
from harness.dispatch.choose import engine as choose_engine
from harness.dispatch.engine import Engine
from harness.execution import execute
from harness.experiment.spec import Experiment, Plan
from harness.experiment.tuning import Search
from harness.interrupts import Interrupts
from harness.paths import data_root
from harness.progress import Tally, display
from harness.records import Outcome
from harness.report.build import build_report
from harness.report.closing import attach_report
from harness.report.terminal import for_stdout
from harness.search.drive import Drive
from harness.search.figures import write_figures
from harness.search.ledger import Ledger
from harness.search.points import StudyPlan
from harness.search.results import SETTLED, Archive
from harness.search.retrain import retrain_plan, winner
from harness.search.runs import StudyRuns, search_plan
from harness.search.storage import open_storage
from harness.search.summary import announcement, outcome_lines
from harness.tracking.claims import Claims
from harness.tracking.finish import finish_artifacts
from harness.tracking.persist import persist
from harness.tracking.results import read
from harness.tracking.store import Store, open_store
from harness.tracking.writer import SweepWriter
from harness.trial import Trial

SHOWN_CONFIGS = 20
POLL_SECONDS = 1.0
"""Between two looks at the points of other processes."""
FIGURES = "figures"
"""User attribute of a study: how many points its figures in MLflow show."""


def run(
    experiment: Experiment,
    search: Search,
    plans: Sequence[StudyPlan],
    arguments: argparse.Namespace,
) -> int:
    """Tune, retrain, compare. Returns the exit code."""
    console = Console()
    store = open_store()
    where = arguments.storage or search.storage
    with open_storage(where, store.home, experiment.name) as opened:
        ledgers = [Ledger(opened, plan, experiment.name) for plan in plans]
        lost = sum(ledger.recover() for ledger in ledgers)
        _say(console, announcement(experiment.name, search, ledgers, lost, opened.label))
        plan = search_plan(experiment, plans, search)
        failed = _tune(console, store, plan, ledgers, arguments)
        winners = [winner(ledger) for ledger in ledgers]
        _say(console, outcome_lines(search, ledgers, winners))
        again = retrain_plan(experiment, ledgers, winners)
    failed += _retrain(console, store, again, arguments)
    if again.trials and not arguments.no_compare:
        _compare(store, again)
    return SOME_FAILED if failed else OK


def _say(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _engine(trials: Sequence[Trial], arguments: argparse.Namespace) -> Engine:
    return choose_engine(trials, arguments.executor, arguments.workers, slots=arguments.slots)


def _tune(
    console: Console,
    store: Store,
    plan: Plan,
    ledgers: Sequence[Ledger],
    arguments: argparse.Namespace,
) -> int:
    """Run every study to the end of its budget. Returns how many points failed."""
    goal = plan.experiment.goal
    search = ledgers[0].search
    left = {ledger.plan.label: (ledger.left() or 0) * len(search.seeds) for ledger in ledgers}
    with Interrupts() as interrupts, StudyRuns(store, plan, goal, left) as runs:
        while not _is_done(ledgers):
            if all(ledger.is_over() for ledger in ledgers):
                # Others have the last points; those of a process that dies are taken over.
                time.sleep(POLL_SECONDS)
                for ledger in ledgers:
                    ledger.recover()
                continue
            budget = (search.trials or len(ledgers)) * len(search.seeds)
            bases = [ledger.plan.base.trial for ledger in ledgers for _ in range(budget)]
            trainer = _engine(bases, arguments)
            _say(console, [f"tuning: {trainer.description}"])
            archive = Archive(
                store, store.finished(store.experiment(plan.experiment.name)), search.objectives
            )
            drive = Drive(
                ledgers,
                trainer,
                runs,
                archive.find,
                goal,
                interrupts,
                data_root(),
                evidence=plan.experiment.artifacts == "all",
                checkpoints=_checkpoints(store, plan, arguments),
            )
            _follow(console, drive, Tally(sum(left.values()), goal), trainer)
        _figures(console, store, runs, ledgers)
    return sum(ledger.counts()["failed"] for ledger in ledgers)


def _checkpoints(store: Store, plan: Plan, arguments: argparse.Namespace) -> CheckpointRoom:
    folder = store.checkpoints(store.experiment(plan.experiment.name))
    return CheckpointRoom(folder, arguments.checkpoint_every)


def _is_done(ledgers: Sequence[Ledger]) -> bool:
    """Whether every study has had its budget, and nobody trains a point of it any more."""
    return all(ledger.is_over() and not ledger.counts()["running"] for ledger in ledgers)


def _follow(console: Console, drive: Drive, tally: Tally, trainer: Engine) -> None:
    """Show progress until every study is over."""
    try:
        with display(console, tally.total) as shown:
            for planned, record in drive.records():
                tally.add(planned, record)
                shown.show(tally, planned, record)
    finally:
        trainer.close()


def _figures(console: Console, store: Store, runs: StudyRuns, ledgers: Sequence[Ledger]) -> None:
    """Store each study's figures with its parent run, once for each state of the study."""
    for ledger in ledgers:
        told = sum(ledger.counts().values())
        if not told or ledger.study.user_attrs.get(FIGURES) == told:
            continue
        with tempfile.TemporaryDirectory() as name:
            missing = write_figures(ledger, Path(name) / "study")
            run_id = runs.parent(ledger).run_id
            persist("store figures", lambda n=name, r=run_id: store.client.log_artifacts(r, n))  # type: ignore[misc]
        ledger.study.set_user_attr(FIGURES, told)
        if missing:
            _say(console, [f"study {ledger.plan.label}: not drawn: {', '.join(missing)}"])


def _retrain(console: Console, store: Store, plan: Plan, arguments: argparse.Namespace) -> int:
    """Train what the store has not got of the winners, and store the whole report beside them.
    Returns how many trials failed."""
    goal = plan.experiment.goal
    experiment_id = store.experiment(plan.experiment.name)
    found = store.finished(experiment_id)
    settled = {trial_id for trial_id, info in found.items() if info.outcome in SETTLED}
    todo = [planned for planned in plan.trials if planned.trial_id not in settled]
    if not todo:
        finish_artifacts(store, plan, goal)
        return 0
    tally = Tally(len(todo), goal)
    trainer = _engine([planned.trial for planned in plan.trials], arguments)
    _say(console, [f"training winners and defaults on fresh seeds: {len(todo)} trials"])
    evidence = plan.experiment.artifacts != "none"
    with (
        Claims(store, experiment_id, found) as claims,
        Interrupts() as interrupts,
        SweepWriter(store, plan, goal, trials=len(todo), title="retrain winners") as writer,
        display(console, len(todo)) as shown,
        closing(
            execute(
                todo,
                trainer,
                writer,
                interrupts,
                data_root(),
                evidence,
                claims.take,
                checkpoints=_checkpoints(store, plan, arguments),
            )
        ) as records,
    ):
        claims.share(writer.lease)
        for planned, record in records:
            if record is not None:  # None where another harness has run it meanwhile
                tally.add(planned, record)
                shown.show(tally, planned, record)
    results = read(store, plan.experiment.name)
    attach_report(store, results, Question().of_plan(plan))
    return tally.outcomes[Outcome.FAILED]


def _compare(store: Store, plan: Plan) -> None:
    """Print default against tuned on the fresh seeds, and where to look next."""
    name = plan.experiment.name
    question = Question(top=SHOWN_CONFIGS).of_plan(plan)
    results = read(store, name, plan.experiment.goal)
    sys.stdout.write("\n" + for_stdout([build_report(results, question)]))
    sys.stdout.write("\nNext: `make ui` shows every run, and each study's figures at its parent.\n")
