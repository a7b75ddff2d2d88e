"""All fields of an experiment file, each declared once.

Validation, the JSON Schema and the tables in the docs derive from these declarations. The fields
of a trial are declared in `trial`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from harness.components.base import Names, Options
from harness.core.metrics import Direction
from harness.experiment.experiment import Artifacts
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    COMPONENT_LIST_FIELDS,
    DECLARATIONS,
    TRIAL_FIELDS,
    TYPES,
)

COMPONENT_KINDS: Final = {**COMPONENT_FIELDS, **COMPONENT_LIST_FIELDS}
"""Trial fields that hold components, one or a list, and their kind."""

SPLITS: Final = ("val", "test", "train")
SELECTION_PATTERN: Final = r"^(train|val|test)/[A-Za-z0-9_]+$"
FIGURE_PATTERN: Final = r"^(best/|final/)?(train|val|test)/[A-Za-z0-9_]+$"


class Fields(BaseModel):
    """Base class of the declarations. Unknown keys are refused, values are not coerced, and numbers
    must be finite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def _accepted(name: str) -> Any:
    """Returns the type of a trial field in a file, where a component is a name or a mapping."""
    if name in COMPONENT_KINDS:
        return Any
    return TYPES[name] | None if DECLARATIONS[name].by_task else TYPES[name]


_TRIAL: dict[str, Any] = {name: (_accepted(name), d.info) for name, d in DECLARATIONS.items()}
TrialFields: Final = create_model("TrialFields", __base__=Fields, **_TRIAL)
"""The fields of a trial, as an experiment file gives them."""


class SkipFields(Fields):
    """A rule that leaves out combinations of the grid."""

    when: dict[str, Any] = Field(
        min_length=1, description="fields and their values; a list means any of them"
    )
    because: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        min_length=1, description="the reason, which reports show"
    )


class ExpectFields(Fields):
    """A published figure that compare checks."""

    metric: str = Field(
        pattern=FIGURE_PATTERN,
        examples=["test/accuracy", "best/val/loss", "final/train/r2"],
        description="`test/accuracy` is that of the last epoch, `best/test/accuracy` that of the "
        "selected one",
    )
    value: float = Field(description="the published figure")
    tolerance: float = Field(
        gt=0, description="largest distance of the mean over seeds from the figure"
    )
    where: dict[str, Any] = Field(
        {}, description="the trials that the figure is about; all by default"
    )
    source: str = Field("", description="where it is published")


class TPE(Options):
    """Options that are None are left to Optuna."""

    n_startup_trials: int | None = Field(
        None, ge=0, description="random points before the model is used"
    )
    multivariate: bool | None = Field(None, description="model the fields together")
    group: bool | None = Field(
        None, description="with `multivariate`: a model for each conditional part of the space"
    )
    constant_liar: bool | None = Field(
        None, description="count points that still train as poor ones, to draw away from them"
    )


class QMC(Options):
    sequence: Literal["halton", "sobol"] = Field(
        "halton", description="the sequence, scrambled with the seed"
    )


class GP(Options):
    n_startup_trials: int = Field(10, ge=1, description="random points before the model is used")
    deterministic_objective: bool = Field(False, description="assume an objective without noise")


class CMAES(Options):
    n_startup_trials: int = Field(1, ge=1, description="random points before the model is used")
    sigma0: float | None = Field(
        None, gt=0, description="the first step; by default a sixth of the range"
    )


class NSGA2(Options):
    population_size: int = Field(50, ge=2, description="points in a generation")


class Median(Options):
    n_startup_trials: int = Field(5, ge=0, description="points that are never pruned")
    n_warmup_steps: int = Field(0, ge=0, description="epochs before the first pruning")


class ASHA(Options):
    min_resource: int = Field(1, ge=1, description="epochs before the first rung")
    reduction_factor: int = Field(4, ge=2, description="one in so many points goes on")
    min_early_stopping_rate: int = Field(
        0, ge=0, description="rungs that are left out at the start"
    )


class Hyperband(Options):
    min_resource: int = Field(1, ge=1, description="epochs of the shortest bracket")
    reduction_factor: int = Field(3, ge=2, description="one in so many points goes on")


class Wilcoxon(Options):
    p_threshold: float = Field(0.1, gt=0, lt=1, description="a p-value below it prunes")
    n_startup_steps: int = Field(2, ge=0, description="seeds before the first pruning")


SAMPLERS: Final[Mapping[str, type[Options]]] = {
    "tpe": TPE,
    "random": Options,
    "qmc": QMC,
    "gp": GP,
    "cmaes": CMAES,
    "nsga2": NSGA2,
    "grid": Options,
}
PRUNERS: Final[Mapping[str, type[Options]]] = {
    "none": Options,
    "median": Median,
    "asha": ASHA,
    "hyperband": Hyperband,
    "wilcoxon": Wilcoxon,
}
WILCOXON_MIN_PAIRS: Final = 4
"""Below so many pairs of seeds Wilcoxon's test cannot give a p below 0.1: 2⁻⁴ is the first."""


class RangeFields(Fields):
    """A range of numbers in a search space."""

    low: float = Field(description="the smallest value")
    high: float = Field(description="the largest value")
    log: bool = Field(False, description="search the logarithm")
    step: float | None = Field(
        None, gt=0, description="the distance of neighbouring values, where wanted"
    )


class SearchFields(Fields):
    """How to search hyper-parameters."""

    per: Names = Field((), description="one study of equal budget for each value of these fields")
    space: dict[str, Any] = Field(
        {},
        description="fields to search: each a list of values, or a range `{low: …, high: …}` with "
        "an optional `log: true` or `step: …`",
    )
    trials: int | None = Field(
        None, ge=1, description="points of each study; 20 if `minutes` is not given either"
    )
    minutes: float | None = Field(
        None, gt=0, description="minutes of training for each study, summed over its points"
    )
    patience: int | None = Field(
        None, ge=1, description="end a study after so many points without a better one"
    )
    retrain_seeds: int = Field(5, ge=0, description="train the winners again on so many new seeds")
    known: list[Any] = Field(
        [],
        description="points to try first, as `{optimizer: adam, lr: 1e-3}`; the first that "
        "belongs to a study is its default. By default the values in `trial` and `grid`",
    )
    also: Names = Field(
        (),
        description="further objectives beside `metric`: `time/train_s`, `parameters`, or a "
        "split and a metric",
    )
    sampler: str | dict[str, Any] = Field(
        "tpe",
        description="the algorithm that proposes points: a name, or `name` and options. "
        + ", ".join(f"`{name}`" for name in SAMPLERS),
    )
    pruner: str | dict[str, Any] = Field(
        "none",
        description="the algorithm that stops poor points early: a name, or `name` and options. "
        + ", ".join(f"`{name}`" for name in PRUNERS),
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="seed of the sampler and of the winners' new seeds"
    )
    storage: str = Field(
        "",
        description="Optuna's storage: the path of a journal, or a URL; by default a journal "
        "in mlruns",
    )


class FileFields(Fields):
    """The top level of an experiment file."""

    name: str = Field(
        "",
        pattern=r"^\w[\w. -]*$",
        max_length=100,
        description="name of the experiment, in MLflow too: letters, digits, - _ . and spaces, the "
        "first a letter, a digit or _; by default the file's name without its suffix",
    )
    description: str = Field("", description="the purpose of the experiment, which reports show")
    code: str | list[str] = Field(
        [],
        description="Python files beside this one, and installed modules, whose decorated classes "
        "and functions are components. They are run",
        examples=["my_net.py", ["my_net.py", "my_package.optimizers"]],
    )
    trial: dict[str, Any] = Field({}, description="trial fields that all trials share")
    grid: dict[str, Any] | list[dict[str, Any]] = Field(
        {},
        description="the axes: trial fields, each with a list of values; or a list of such "
        "mappings, each a grid of its own",
    )
    skip: list[Any] = Field([], description="combinations to leave out, each with a reason")
    metric: str = Field(
        "",
        pattern=SELECTION_PATTERN,
        examples=["val/accuracy", "val/loss", "test/r2"],
        description="the metric that trials are selected on; by default that of the data set's "
        "task, on val if there are validation examples",
    )
    direction: Direction | None = Field(
        None,
        description="whether higher or lower values of the metric are better; needed only where "
        "just a training_loop knows the metric",
    )
    target: float | None = Field(
        None, description="value of the metric that time-to-target measures the way to"
    )
    search: dict[str, Any] | None = Field(None, description="how to search hyper-parameters")
    expect: list[Any] = Field([], description="published figures, which compare checks")
    artifacts: Artifacts = Field(
        "best",
        description="which trials keep figures and weights; `best`: the best of each optimizer "
        "and model",
    )


def split(field: str) -> tuple[str, str]:
    """Splits a field into root and option: "optimizer.eps" → ("optimizer", "eps"), "lr" →
    ("lr", "")."""
    root, _, option = field.partition(".")
    return root, option


@cache
def json_types(fields: type[BaseModel], name: str) -> set[str]:
    """Returns what a field may be in JSON Schema's terms: "number", "integer", "array", …"""
    declared = fields.model_json_schema()["properties"][name]
    members = declared.get("anyOf", [declared])
    return {member["type"] for member in members if "type" in member}


def is_known(field: str) -> bool:
    """Whether this names a trial field, or may name an option of its component."""
    root, option = split(field)
    return field in TRIAL_FIELDS or (bool(option) and root in COMPONENT_FIELDS)
