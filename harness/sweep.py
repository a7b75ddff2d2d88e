"""`python -m harness.sweep FILE [key=value…]`: run what an experiment asks for and is not done."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

from harness.cli.flags import OK, SOME_FAILED, add_training_flags, check_training_flags, run_command
from harness.core.text import plural

if TYPE_CHECKING:
    from rich.console import Console

    from harness.core.records import Outcome
    from harness.execution.executors.base import Executor
    from harness.experiment.plan import Plan, PlannedTrial
    from harness.store.read.runs import RunSummary
    from harness.store.store import Store

SHOWN_CONFIGS = 10
"""Configs in the comparison at the end; `harness.compare` shows all."""

EPILOG = """\
key=value overrides any field of the file: trial.epochs=1, grid.seed=[0,1], lr=0.01.
exit codes: 0 all done; 1 some trial failed; 2 bad input, nothing was run; 130 interrupted: run the
same command again and it goes on.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m harness.sweep",
        description="Run every trial of an experiment file that is not done yet.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("file", help="the experiment file (YAML)")
    made.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="override a field"
    )
    made.add_argument(
        "--dry-run", action="store_true", help="list trials, skips and reasons; run nothing"
    )
    again = made.add_mutually_exclusive_group()
    again.add_argument(
        "--retry-failed", action="store_true", help="also run trials that failed before"
    )
    again.add_argument(
        "--rerun", action="store_true", help="run every trial again; newer runs replace older ones"
    )
    add_training_flags(
        made,
        fuse="train trials that differ in optimizer, lr, scheduler, seed or clipping alone as one "
        "stack of at most K; auto: where a short measurement finds that faster (default: off)",
    )
    made.add_argument(
        "--no-compare", action="store_true", help="do not print the comparison at the end"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(list(argv))

    from harness.components.shared.data_files import offline
    from harness.core.paths import data_root
    from harness.experiment.loading import load
    from harness.experiment.plan import make_plan

    check_training_flags(arguments)
    with offline("a dry run downloads nothing") if arguments.dry_run else nullcontext():
        plan = make_plan(load(arguments.file, arguments.overrides), data_root())
    if arguments.dry_run:
        sys.stdout.write(listing(plan, arguments.fuse))
        return OK
    return _run(plan, arguments)


def listing(plan: Plan, fuse: int | str = "off") -> str:
    """What `--dry-run` prints: every trial with its id, every skip with its reason; where trials
    train as stacks, how many, and why the others do not."""
    from harness.core.paths import data_root
    from harness.execution.stacking import max_stack_size, plan_stacks

    lines = [f"{planned.trial_id}  {planned.name}" for planned in plan.trials]
    lines += [
        f"skipped           {' '.join(f'{k}={v}' for k, v in skip.axes.items())}: {skip.because}"
        for skip in plan.skipped
    ]
    if fuse != "off":
        from harness.training.stacked.compatibility import stacking_refusal

        grouping = plan_stacks(plan.trials, max_stack_size(fuse))
        lines += grouping.without_refused(
            lambda trial: stacking_refusal(trial, data_root())
        ).lines()
    configs = len({planned.config_id for planned in plan.trials})
    lines.append(
        f"{plan.experiment.name}: {plural(len(plan.trials), 'trial')} of "
        f"{plural(configs, 'config')}, {plural(len(plan.skipped), 'combination')} skipped; "
        f"selected on {plan.experiment.metric}"
    )
    return "\n".join(lines) + "\n"


def _run(plan: Plan, arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from harness.core.records import Outcome
    from harness.store.store import open_store
    from harness.store.write.background import take_in
    from harness.store.write.finish import finish

    console = Console()
    trainer = _ready(plan, arguments)
    store = open_store()
    if taken := take_in(store, plan):
        console.print(f"written from the outbox: {plural(taken, 'trial')}", highlight=False)
    known = store.latest_runs(store.experiment(plan.experiment.name))
    todo, standing = _left(plan, known, arguments)
    _announce(console, plan, todo, standing)
    failed = standing.get(Outcome.FAILED, 0)
    if todo:
        failed += _train(console, plan, todo, store, known, trainer, arguments)
    else:
        finish(store, plan)
    if not arguments.no_compare:
        _compare(plan, store, trained=bool(todo))
    return SOME_FAILED if failed else OK


def _ready(plan: Plan, arguments: argparse.Namespace) -> Executor:
    """What trains, which gets ready while the store is opened where surely there is something to
    train."""
    from harness.store.store import latest_runs_without_mlflow

    trainer = _engine(plan, arguments)
    seen = latest_runs_without_mlflow(plan.experiment.name)
    if seen is not None and _left(plan, seen, arguments)[0]:
        trainer.prepare()
    return trainer


def _engine(plan: Plan, arguments: argparse.Namespace) -> Executor:
    from harness.execution.executors.choose import make_executor

    return make_executor(
        [planned.trial for planned in plan.trials],
        arguments.executor,
        arguments.workers,
        slots=arguments.slots,
        exclusive=arguments.exclusive,
        address=arguments.address,
    )


def _left(
    plan: Plan, known: Mapping[str, RunSummary], arguments: argparse.Namespace
) -> tuple[list[PlannedTrial], dict[Outcome, int]]:
    """The trials to run, and how many are not run because they stand in the store, by outcome."""
    from harness.core.records import FINISHED, NOT_REPEATED

    found = {} if arguments.rerun else known
    settled = FINISHED if arguments.retry_failed else NOT_REPEATED
    todo, standing = [], dict.fromkeys(settled, 0)
    for planned in plan.trials:
        info = found.get(planned.trial_id)
        if info is not None and info.outcome in settled:
            standing[info.outcome] += 1
        else:
            todo.append(planned)
    return todo, standing


def _announce(
    console: Console, plan: Plan, todo: list[PlannedTrial], standing: dict[Outcome, int]
) -> None:
    from harness.core.records import Outcome

    there = ", ".join(f"{n} {outcome}" for outcome, n in standing.items() if n)
    text = f"{plan.experiment.name}: {plural(len(plan.trials), 'trial')}"
    if plan.skipped:
        text += f" ({plural(len(plan.skipped), 'combination')} skipped)"
    text += f"; already in the store: {there}" if there else ""
    text += f"; {len(todo)} to run" if todo else "; nothing to run"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    if standing.get(Outcome.FAILED):
        console.print("--retry-failed runs the failed ones again", highlight=False)


def _train(
    console: Console,
    plan: Plan,
    todo: list[PlannedTrial],
    store: Store,
    known: Mapping[str, RunSummary],
    trainer: Executor,
    arguments: argparse.Namespace,
) -> int:
    """Train what is left. Returns how many trials failed."""
    from harness.cli.progress import ProgressState, progress_display
    from harness.core.interrupts import Interrupts
    from harness.core.paths import data_root
    from harness.core.records import FINISHED, Outcome
    from harness.core.system import rare_garbage_collection
    from harness.execution.experiment_checkpoints import ExperimentCheckpoints
    from harness.execution.queue import execute, stacks_of
    from harness.runner.checkpoints import settle_checkpoints, settled_checkpoints
    from harness.store.coordination.claims import Claims
    from harness.store.write.background import BackgroundWriter
    from harness.store.write.sweep_writer import SweepWriter

    goal = plan.experiment.goal
    tally = ProgressState(len(todo), goal)
    test_outputs = plan.experiment.artifacts != "none"
    console.print(f"training: {trainer.description}", highlight=False)
    checkpoints = ExperimentCheckpoints(
        store.checkpoints(store.experiment(plan.experiment.name)),
        arguments.checkpoint_every,
        fresh=arguments.rerun,
    )
    checkpoints.release_finished({key for key, run in known.items() if run.outcome in FINISHED})
    stacks, told = stacks_of(todo, arguments.fuse, trainer.slots, checkpoints)
    for line in told:
        console.print(line, highlight=False, markup=False)
    with (
        nullcontext() if trainer.is_local else rare_garbage_collection(),
        Claims(store, store.experiment(plan.experiment.name), known) as claims,
        Interrupts() as interrupts,
        SweepWriter(store, plan, goal, trials=len(todo)) as writer,
        settled_checkpoints(writer, checkpoints),
        BackgroundWriter(writer, in_step=trainer.is_local) as background,
        progress_display(console, len(todo)) as shown,
        # Closed first, wherever it is left: training stops before anything else is wound up.
        closing(
            execute(
                todo,
                trainer,
                background,
                interrupts,
                data_root(),
                test_outputs,
                claims.take,
                stacks,
                checkpoints,
            )
        ) as records,
    ):
        claims.share(writer.lease)
        for planned, record in records:
            settle_checkpoints(writer, checkpoints)
            if record is None:
                tally.total -= 1
            else:
                tally.add(planned, record)
                shown.show(tally, planned, record)
    for line in tally.resumptions():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if tally.total < len(todo):
        elsewhere = plural(len(todo) - tally.total, "trial")
        console.print(f"{elsewhere} run by another harness meanwhile", highlight=False)
    if background.trials:
        console.print(background.cost(), highlight=False)
    return tally.outcomes[Outcome.FAILED]


def _compare(plan: Plan, store: Store, trained: bool) -> None:
    """Print how the plan's trials compare, and where to look next. trained: whether some are new,
    so that the whole report is stored with the sweep's run."""
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
    asking = f"python -m harness.compare {shlex.quote(name)}"
    sys.stdout.write(
        f"\nNext: `make ui` shows every run; `{asking} --html report.html` draws the report.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
