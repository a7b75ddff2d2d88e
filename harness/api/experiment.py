"""An experiment in Python: a grid of trials to run, with classes and functions of the user's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from rich.console import Console

from harness.api.errors import told_plainly
from harness.api.results import Results, of_plan
from harness.cli.flags import check_training_flags, from_keywords
from harness.components.registry import activate
from harness.core.errors import InputError, Problem, TrialFailed
from harness.core.paths import data_root
from harness.core.process import Stopped
from harness.core.text import plural
from harness.experiment import loading
from harness.experiment.experiment import Experiment as Described
from harness.experiment.plan import Plan, make_plan, plan_bases

Executor = Literal["inline", "process", "ray"]


class Experiment:
    """A benchmark: a grid of training configurations.

    It has the fields of an experiment file (docs/experiment-file.md), with the same meaning and the
    same checks. Wherever a file has the name of a component, a class or a function may stand:

        harness.Experiment(
            "mine",
            trial={"dataset": "digits", "epochs": 10},
            grid={
                "model": ["mlp", Net, {"name": Net, "width": 128}],
                "optimizer": [torch.optim.SGD, Lion],
                "lr": [0.01, 0.1],
                "seed": range(5),
            },
        )

    Args:
        name: of the experiment, in the store too.
        trial: the fields that all trials share.
        grid: the axes, each a field with a list of values; or a list of such mappings.
        code: Python files below the working folder, and installed modules, whose decorated classes
            and functions are components. They are run.
        skip: combinations to leave out: `{"when": {…}, "because": "…"}`.
        metric: what trials are selected on; by default that of the data set's task.
        direction: "max" or "min", where only a training loop knows the metric.
        target: the value of the metric that time-to-target measures the way to.
        search: how `search` searches hyper-parameters.
        expect: published figures, which reports check.
        artifacts: which trials keep figures and weights.
        description: the purpose, which reports show.

    Raises:
        InputError: a field is not valid. The message names all such fields ("grid.model[0]").
    """

    @told_plainly
    def __init__(
        self,
        name: str,
        *,
        trial: Mapping[str, Any] | None = None,
        grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        code: str | Sequence[str] | None = None,
        skip: Sequence[Mapping[str, Any]] | None = None,
        metric: str | None = None,
        direction: Literal["max", "min"] | None = None,
        target: float | None = None,
        search: Mapping[str, Any] | None = None,
        expect: Sequence[Mapping[str, Any]] | None = None,
        artifacts: Literal["best", "all", "none"] = "best",
        description: str = "",
    ) -> None:
        values = {
            "name": name,
            "description": description,
            "code": code,
            "trial": trial,
            "grid": grid,
            "skip": skip,
            "metric": metric,
            "direction": direction,
            "target": target,
            "search": search,
            "expect": expect,
            "artifacts": artifacts,
        }
        given = {field: value for field, value in values.items() if value is not None}
        self._described = loading.load_values(given)

    @classmethod
    def _of(cls, described: Described) -> Experiment:
        experiment = cls.__new__(cls)
        experiment._described = described
        return experiment

    @property
    def name(self) -> str:
        """The experiment's name, in the store too."""
        return self._described.name

    @told_plainly
    def run(
        self,
        *,
        workers: int | None = None,
        slots: int | None = None,
        exclusive: bool = False,
        executor: Executor | None = None,
        address: str | None = None,
        fuse: int | Literal["auto", "off"] | None = None,
        checkpoint_every: float | None = None,
        fail_fast: bool = False,
        retry_failed: bool = False,
        rerun: bool = False,
    ) -> Results:
        """Trains every trial that the store has not finished, and returns the results.

        Ctrl-C, or the interruption of a cell, ends it; running it again continues. The arguments
        are the flags of `python -m harness.sweep` (docs/sweep.md).

        Args:
            workers: trials that train at the same time on the CPU; by default one for each core.
            slots: trials that train at the same time on each GPU; by default 1.
            exclusive: train one trial at a time on each device, so that times are comparable.
            executor: train in this process, in worker processes, or on a Ray cluster.
            address: of the Ray cluster; by default one is started on this machine.
            fuse: train trials as stacks of at most so many; "auto" where that is faster.
            checkpoint_every: seconds of training between two checkpoints of a trial.
            fail_fast: stop at the first trial that fails.
            retry_failed: also train trials that failed before.
            rerun: train every trial again; newer runs replace older ones.

        Returns:
            The results of this experiment's trials, those of earlier runs included.

        Raises:
            InputError: an argument is not valid, or data is missing.
            StoreError: the store cannot be read or written.
            TrialFailed: a trial failed, and `fail_fast` was given.
        """
        from harness.runner.sweep import sweep
        from harness.sweep import parser

        given = {name: value for name, value in locals().items() if name in RUN_ARGUMENTS}
        arguments = from_keywords(parser(), given)
        check_training_flags(arguments)
        plan = self._plan()
        try:
            swept = sweep(plan, arguments, Console(), owns_process=False)
        except Stopped as stopped:
            raise TrialFailed(str(stopped)) from None
        return of_plan(swept.store, plan)

    @told_plainly
    def search(
        self,
        *,
        workers: int | None = None,
        slots: int | None = None,
        exclusive: bool = False,
        executor: Executor | None = None,
        address: str | None = None,
        fuse: int | Literal["auto", "off"] | None = None,
        checkpoint_every: float | None = None,
        fail_fast: bool = False,
        storage: str | None = None,
    ) -> Results:
        """Tunes what the `search` block describes, trains the winners on fresh seeds, and returns
        the results.

        The arguments are the flags of `python -m harness.search` (docs/search.md).

        Args:
            storage: Optuna's storage, a journal's path or a URL; by default a journal in mlruns.

        The others are those of `run`.

        Returns:
            The results of all trials: points that the search tried, and the winners.

        Raises:
            InputError: the experiment has no `search` block, or an argument is not valid.
            StoreError, TrialFailed: as in `run`.
        """
        from harness.runner.search import tune
        from harness.search import parser
        from harness.tuning.study_plan import plan_studies

        given = {name: value for name, value in locals().items() if name in SEARCH_ARGUMENTS}
        arguments = from_keywords(parser(), given)
        check_training_flags(arguments)
        described = self._described
        if described.search is None:
            what, hint = "the experiment has no `search` block", "docs/search.md shows one"
            raise InputError(Problem(what, where=described.where, hint=hint))
        plan = self._plan()
        studies = plan_studies(plan, described.search, data_root())
        try:
            store, _, _ = tune(
                described, described.search, studies, arguments, Console(), owns_process=False
            )
        except Stopped as stopped:
            raise TrialFailed(str(stopped)) from None
        return of_plan(store, plan)

    @told_plainly
    def results(self) -> Results:
        """Returns the results that the store has of this experiment's trials. Runs nothing.

        Raises:
            InputError: the store has none.
            StoreError: the store cannot be read.
        """
        from harness.store.store import open_existing_store

        return of_plan(open_existing_store(), self._plan())

    def _plan(self) -> Plan:
        activate(self._described.code)  # Another experiment may have been read since.
        planned = plan_bases if self._described.search is not None else make_plan
        return planned(self._described, data_root())

    def __repr__(self) -> str:
        combinations = plural(len(self._described.grid.combinations), "combination")
        return f"<Experiment {self.name!r}: {combinations}>"


SHARED_ARGUMENTS = frozenset(
    (
        *("workers", "slots", "exclusive", "executor", "address", "fuse", "checkpoint_every"),
        "fail_fast",
    )
)
RUN_ARGUMENTS = SHARED_ARGUMENTS | {"retry_failed", "rerun"}
SEARCH_ARGUMENTS = SHARED_ARGUMENTS | {"storage"}
"""Arguments that are flags of the commands."""


@told_plainly
def load(path: str | PathLike[str], overrides: Iterable[str] = ()) -> Experiment:
    """Returns the experiment that a file describes. It runs the code that the file names.

    Args:
        path: of the experiment file (YAML).
        overrides: as on the command line: `["trial.epochs=1", "lr=[0.01,0.1]"]`.

    Raises:
        InputError: the file is not valid. The message names all faults with their lines.
    """
    return Experiment._of(loading.load(path, overrides))
