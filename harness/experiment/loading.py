"""Reads an experiment file, with its overrides, into a validated `Experiment`.

Every problem is collected and all are reported at once; nothing runs on a file with one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Final, cast

from harness.components.base import Metric
from harness.components.code.snapshot import CodeSnapshot
from harness.components.code.source import entry_of
from harness.components.registry import CodeNotRun, active_code, find, no_code
from harness.components.shared.splitting import validation_size
from harness.core import paths
from harness.core.errors import HarnessError, InputError
from harness.core.metrics import BEST, FINAL
from harness.experiment.batches import single_example_problem
from harness.experiment.experiment import Expectation, Experiment
from harness.experiment.fields import ExpectFields, FileFields, TrialFields
from harness.experiment.grid import FieldValue, Grid, enumerate_grid
from harness.experiment.reading.components import (
    DataInfos,
    check_condition,
    check_data,
    check_fit,
    resolve,
)
from harness.experiment.reading.file import (
    ExperimentFile,
    apply_overrides,
    code_entries,
    load_code,
    possible_references,
    read_file,
)
from harness.experiment.reading.hints import LOSS
from harness.experiment.reading.rules import check_rules, read_rules
from harness.experiment.reading.search import read_search
from harness.experiment.reading.trial_fields import (
    ReadFields,
    distinct_values,
    make_axes,
    read_entries,
    read_fields,
)
from harness.experiment.reading.validation import (
    read_list,
    validate,
    validate_entries,
    validate_mapping,
)
from harness.experiment.reading.values import as_yaml, read_values
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import is_absent


class NamesCode(HarnessError):
    """A file names code, which is not to run: it cannot be planned.

    name: of the experiment. is_search: whether the file has a `search:` block. sha256: of the file.
    entries: the files and modules that it may name.
    """

    def __init__(
        self, name: str, is_search: bool, sha256: str, entries: Collection[str] = ()
    ) -> None:
        super().__init__("the file names code")
        self.name, self.is_search, self.sha256 = name, is_search, sha256
        self.entries = entries


def load(
    path: str | PathLike[str],
    overrides: Iterable[str] = (),
    data_root: Path | None = None,
    run_code: bool = True,
) -> Experiment:
    """Reads the experiment that a file describes, with `key=value` overrides applied.

    data_root: where data sets are described from; the data folder by default.
    run_code: whether the code that the file names may run. If not, raises NamesCode for it.
    Raises InputError with every problem, each with its file and line or its override.
    """
    given = tuple(overrides)
    file = read_file(Path(path))
    if run_code:
        apply_overrides(file, (text for text in given if text.partition("=")[0].strip() == "code"))
        load_code(file)
        apply_overrides(file, given)
        return _read_experiment(file, given, data_root)
    try:
        with no_code():
            if file.values.get("code"):
                raise CodeNotRun("the file has code: …")
            apply_overrides(file, given)
            return _read_experiment(file, given, data_root)
    except CodeNotRun:
        raise _names_code(file) from None


def load_values(values: Mapping[str, Any], data_root: Path | None = None) -> Experiment:
    """Reads the experiment that Python code gives, with the fields of a file. Classes and functions
    may stand for components. data_root, errors: as in `load`, with the name of each field
    ("grid.model[0]") for its line."""
    file = read_values(values)
    written = as_yaml(file)
    return replace(_read_experiment(file, (), data_root), written=written)


def _read_experiment(
    file: ExperimentFile, overrides: tuple[str, ...], data_root: Path | None
) -> Experiment:
    top = _top_level(file)
    read = read_fields(file, read_entries(file), data_root or paths.data_root())
    placed_rules = read_rules(file, read)
    rules = tuple(rule for rule, _ in placed_rules)
    axes, parts = make_axes(read), read.entries.parts()
    grid, counts = enumerate_grid(axes, parts, read.fields, rules)
    _check_combinations(grid, read.infos, file)
    expectations = _expectations(file, read)
    search = read_search(file, read)
    check_rules(file, read, placed_rules, grid, counts, search)
    file.raise_problems()
    if read.selection is None:
        raise InputError("metric: no metric is registered for this data set's task")
    return Experiment(
        name=top["name"],
        path=file.path,
        description=top["description"].strip(),
        axes=distinct_values(grid.axes),
        skip=rules,
        metric=read.selection.metric,
        direction=read.selection.direction,
        target=top["target"],
        search=search,
        expect=expectations,
        artifacts=top["artifacts"],
        sha256=file.sha256,
        overrides=overrides,
        code=active_code(),
        source=CodeSnapshot.of(active_code()),
        grid=grid,
    )


def _names_code(file: ExperimentFile) -> NamesCode:
    """Raises InputError if the fields of the file itself are not valid."""
    name = _top_level(file)["name"]
    file.raise_problems()
    is_search = file.values.get("search") is not None
    entries = {*code_entries(file), *map(entry_of, possible_references(file))}
    return NamesCode(name, is_search, file.sha256, entries)


def _top_level(file: ExperimentFile) -> dict[str, Any]:
    """Validates the fields of the file itself. `metric`, which depends on the trials, the grid and
    the lists are read elsewhere."""
    entries = {
        name: value
        for name, value in file.values.items()
        if value is not None and name not in {"grid", "metric", "skip", "expect"}
    }
    values = {name: info.default for name, info in FileFields.model_fields.items()}
    values |= validate_entries(FileFields, entries, (), file)
    if "name" not in entries:
        values["name"] = validate(FileFields, "name", file.path.stem, ("name",), file)
    return values


def _expectations(file: ExperimentFile, read: ReadFields) -> tuple[Expectation, ...]:
    """Returns the published figures that are valid."""
    chosen, recorded = read.chosen(), read.always_recorded()
    expectations = []
    for position, item in enumerate(read_list(file, "expect")):
        keys: Keys = ("expect", position)
        values = validate_mapping(ExpectFields, item, keys, file)
        if values is None:
            continue
        metric, place = values["metric"], (*keys, "metric")
        # A condition may choose among the data sets: the metric need not fit all of them then.
        infos = [] if values["where"] else read.infos.values()
        plain_name = metric.removeprefix(FINAL).removeprefix(BEST)
        selection = resolve(plain_name, infos, place, file, read.has_loops)
        is_recorded = selection is None or selection.name in recorded or read.has_loops
        if metric.startswith(BEST) and selection is not None and not is_recorded:
            hint = f"add {selection.name} to trial.metrics"
            file.report(
                place, "is not recorded at each evaluation, so its best epoch is unknown", hint
            )
        valid = check_condition(values["where"], (*keys, "where"), chosen, file)
        if valid and selection is not None:
            expectations.append(Expectation(**values))
    return tuple(expectations)


Values = tuple[FieldValue, ...]
REQUIRED: Final = tuple(n for n, info in TrialFields.model_fields.items() if info.is_required())
"""Trial fields that the harness's own training must be given."""


def _check_combinations(grid: Grid, infos: DataInfos, file: ExperimentFile) -> None:
    """Reports values that are invalid in a combination that is not skipped, and values that do not
    fit together, each pair once."""
    for name in grid.fields:
        for (value,) in grid.distinct([name]):
            for problem in value.problems:
                file.report(*problem)
    _check_absences(grid, file)
    checks: Mapping[tuple[str, ...], Callable[[Values, DataInfos, ExperimentFile], None]] = {
        ("model", "dataset"): _check_choice,
        ("loss", "dataset"): _check_choice,
        ("metrics", "dataset"): _check_metrics,
        ("augment", "dataset"): _check_augmentation,
        ("val_fraction", "dataset"): _check_val_fraction,
        ("model", "batch_size", "val_fraction", "dataset"): _check_batches,
        ("scheduler", "metrics", "val_fraction"): _check_scheduler,
        ("training_step", "training_loop"): _check_training_step,
    }
    for names, check in checks.items():
        for values in grid.distinct(names):
            described = "dataset" not in names or values[-1] in infos
            if described and all(value.valid for value in values):
                check(values, infos, file)


def _check_absences(grid: Grid, file: ExperimentFile) -> None:
    """Reports trials that the harness is to train itself without one of the fields that this
    takes, and models that are to be built for no data set."""
    for name in REQUIRED:
        if any(is_absent(name, value.value) for value in grid.fields[name].values.values()):
            for loop, value in grid.distinct(["training_loop", name]):
                if is_absent("training_loop", loop.value) and is_absent(name, value.value):
                    rule = f"{name} is missing: only a training_loop does without"
                    file.report_text(value.keys, rule, "give it in trial or in grid")
    if file.has_problems:
        return
    for dataset, model in grid.distinct(["dataset", "model"]):
        lacks_data = is_absent("dataset", dataset.value)
        if lacks_data and model.valid and not is_absent("model", model.value):
            file.report(model.keys, "is built for a data set, and none is named", "name a dataset")


def _check_choice(values: Values, infos: DataInfos, file: ExperimentFile) -> None:
    choice, dataset = values
    check_data(choice.value, dataset, infos[dataset], choice.keys, file)


def _check_metrics(values: Values, infos: DataInfos, file: ExperimentFile) -> None:
    metrics, dataset = values
    for name in metrics.value or ():
        check_fit(cast("Metric", find("metrics", name)), infos[dataset], metrics.keys, file)


def _check_augmentation(values: Values, infos: DataInfos, file: ExperimentFile) -> None:
    augment, dataset = values
    of_images = any(not choice.component.code for choice in augment.value)
    if of_images and not infos[dataset].is_image:
        rule = f"changes images, but {dataset.value.name} has none"
        file.report(augment.keys, rule, "allowed: none")


def _check_val_fraction(values: Values, infos: DataInfos, file: ExperimentFile) -> None:
    fraction, dataset = values
    examples = infos[dataset].examples
    if examples is None:
        return
    try:
        validation_size(examples, fraction.value)
    except InputError as error:
        file.report_error(fraction.keys, error)


def _check_batches(values: Values, infos: DataInfos, file: ExperimentFile) -> None:
    """A search's own models and batch sizes are checked for each of its points."""
    model, batch_size, fraction, dataset = values
    info = infos[dataset]
    searched = {str(name).partition(".")[0] for name in _search_space(file)}
    if info.examples is None or searched & {"model", "batch_size"}:
        return
    with suppress(InputError):  # No training examples: reported by itself.
        n = info.examples - validation_size(info.examples, fraction.value)
        problem = single_example_problem(model.value, info, n, batch_size.value)
        if problem is not None:
            file.report(batch_size.keys, problem.what, problem.hint)


def _search_space(file: ExperimentFile) -> Iterable[object]:
    search = file.values.get("search")
    space = search.get("space") if isinstance(search, Mapping) else None
    return space if isinstance(space, Mapping) else ()


def _check_scheduler(values: Values, _infos: DataInfos, file: ExperimentFile) -> None:
    """A schedule that follows a metric must find it in every measurement."""
    scheduler, metrics, val_fraction = values
    watched = getattr(scheduler.value.options, "metric", None)
    if scheduler.value.component.driven_by != "metric" or not isinstance(watched, str):
        return
    keys = (*scheduler.keys, "metric")
    split, _, name = watched.partition("/")
    recorded = [LOSS, *(metrics.value or ())]
    if split == "val" and val_fraction.value == 0:
        file.report(keys, f"follows {watched!r}, but val_fraction is 0", "follow train/…")
    if name not in recorded:
        listed = ", ".join(f"{split}/{each}" for each in recorded)
        hint = f"recorded: {listed}; add it to trial.metrics"
        file.report(keys, f"follows {watched!r}, which is not recorded", hint)


def _check_training_step(values: Values, _infos: DataInfos, file: ExperimentFile) -> None:
    """A loop of the user's own takes its own steps."""
    step, loop = values
    given = not is_absent("training_step", step.value)
    if given and not is_absent("training_loop", loop.value):
        rule = f"the training loop {loop.value.name} takes its own steps, so that this is not used"
        file.report(step.keys, rule, "leave out training_step, or skip the combination")
