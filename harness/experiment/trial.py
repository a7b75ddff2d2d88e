"""A trial: one training run with every field set and every component chosen.

The fields of `Trial` are the only declaration of trial fields. All lists of them derive from it:
what an experiment file accepts, the JSON Schema, the tables in the docs, what the ids leave out, in
what the trials of a stack may differ, and which columns reports show first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import Field
from pydantic.fields import FieldInfo

from harness.components.base import (
    NEW_OPTION,
    NONE,
    Augmentation,
    Component,
    Dataset,
    Loss,
    Model,
    Names,
    Optimizer,
    Options,
    Scheduler,
    TrainingLoop,
    TrainingStep,
)
from harness.components.code.source import UserCode
from harness.components.registry import activate, active_code, find, object_name
from harness.core.errors import InputError
from harness.core.text import format_value

SEMANTICS_VERSION = 1
"""Raised when training changes so that every trial gives other numbers. A change that affects one
component's trials raises `Component.revision` instead, and one that affects the trials with one
value of a field goes into `REVISED_VALUES`."""

REVISED_VALUES: Final[Mapping[tuple[str, Any], Any]] = {
    ("precision", "bf16"): "bf16, evaluated in fp32"
}
"""What stands in the id in place of a field's value, by field and value, where the trials with that
value give other numbers than in an earlier version."""

NO_AUGMENTATION: Final = "none"
NO_LR: Final = 0.0
"""The learning rate of a trial that has none, as its training loop needs none."""

Precision = Literal["fp32", "bf16"]


ComponentT = TypeVar("ComponentT", bound=Component, covariant=True)


@dataclass(frozen=True, slots=True)
class Choice(Generic[ComponentT]):
    """A component with its options, all defaults filled in."""

    component: ComponentT
    options: Options

    def __hash__(self) -> int:
        return hash((self.component.kind, self.name, self.options.model_dump_json()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the name and the options: the other process looks its own component up."""
        return _find_choice, (self.component.kind, self.resolved(), self.component.code)

    @property
    def name(self) -> str:
        return self.component.name

    def resolved(self) -> dict[str, Any]:
        """Returns {"name": …, option: value, …} with JSON-able values."""
        return {"name": self.name, **self.options.model_dump(mode="json")}

    def identity(self) -> dict[str, Any]:
        """Returns `resolved()` without the options that are paths (see `base.not_in_id`) and the
        new options that are at their default, and with the component's revision if above 1."""
        identity = self.resolved()
        for name, info in type(self.options).model_fields.items():
            at_default = getattr(self.options, name) == info.get_default(call_default_factory=True)
            if _marked(info, "not_in_id") or (_marked(info, NEW_OPTION) and at_default):
                del identity[name]
        revision = self.component.revision
        number = revision(self.options) if callable(revision) else revision
        if number > 1:
            identity["revision"] = number
        if self.component.code:
            # A file can be moved: its path is no part of the id.
            identity |= {"name": object_name(self.name), "code": self.component.code}
        return identity

    def changed(self) -> dict[str, Any]:
        """Returns the options that differ from their defaults, or have none."""
        changed = {
            name: getattr(self.options, name)
            for name, info in type(self.options).model_fields.items()
            if getattr(self.options, name) != info.get_default(call_default_factory=True)
        }
        return changed | (self.options.model_extra or {})

    @property
    def label(self) -> str:
        """The name and the options that differ from their defaults: "adam(eps=0.1)"."""
        changed = [f"{name}={format_value(value)}" for name, value in self.changed().items()]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @classmethod
    def of(cls, kind: str, resolved: Mapping[str, Any]) -> Choice[Any]:
        """Builds a choice from what `resolved` returns.

        Raises InputError for an unknown name, and pydantic's ValidationError for invalid options.
        """
        component: Any = find(kind, resolved["name"])
        options = {key: value for key, value in resolved.items() if key != "name"}
        return cls(component, component.options.model_validate(options))


def _marked(info: FieldInfo, mark: str) -> bool:
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get(mark))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The SHA-256 of the bytes that a trial reads; as text, what stands for them in its ids.

    data: of the data set. weights: of the file of pretrained weights; "" if the model has none.
    """

    data: str = ""
    weights: str = ""

    def __str__(self) -> str:
        return "+".join(filter(None, (self.data, self.weights)))


NO_FINGERPRINT: Final = Fingerprint()


class Role(Enum):
    """What a trial field decides."""

    TASK = "what is learned: the data set and the model"
    METHOD = "what a benchmark compares: the optimizer, the learning rate and the scheduler"
    SETTING = "any other setting of the training"
    BUDGET = "how long the training takes; no part of the lineage id"
    SEED = "the seed of all random streams; no part of the config id"
    DEVICE = "where the training runs"
    MEASUREMENT = "what is measured and when, which does not change the training"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is declared of a trial field beside its name and its type.

    info: description, limits and default of the field in an experiment file. A field without a
        default must be given.
    by_task: null, the default, means the default of the data set's task.
    stackable: the trials of one stack may differ in this field.
    names_trial: the field is part of a trial's name where the grid has no axes.
    not_searched: why a search must not vary the field; empty where it may.
    new: the field came after version 1.0. A trial that has its default is described without it, in
        its id and in the store, so that what is stored stays the same trial.
    """

    role: Role
    info: FieldInfo
    by_task: bool
    stackable: bool
    names_trial: bool
    not_searched: str
    new: bool


def declare(
    role: Role,
    description: str,
    default: Any = ...,
    *,
    by_task: bool = False,
    stackable: bool = False,
    names_trial: bool = False,
    not_searched: str = "",
    new: bool = False,
    **limits: Any,
) -> Any:
    """Declares a field of `Trial`.

    limits: further arguments of pydantic's `Field` (gt, le, …).
    """
    info = Field(None if by_task else default, description=description, **limits)
    declaration = Declaration(role, info, by_task, stackable, names_trial, not_searched, new)
    return field(metadata={"declaration": declaration})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training run.

    `metrics` are recorded at each evaluation beside the loss; all others of the task are recorded
    once, at the end.
    """

    dataset: Choice[Dataset] = declare(
        Role.TASK,
        "the data set",
        not_searched="trials of different data are never ranked against each other",
    )
    model: Choice[Model] = declare(Role.TASK, "the network", names_trial=True)
    optimizer: Choice[Optimizer] = declare(
        Role.METHOD, "the update rule", stackable=True, names_trial=True
    )
    lr: float = declare(Role.METHOD, "base learning rate", stackable=True, names_trial=True, gt=0)
    scheduler: Choice[Scheduler] = declare(
        Role.METHOD, "how the learning rate changes during training", "constant", stackable=True
    )
    loss: Choice[Loss] = declare(
        Role.SETTING,
        "what training minimises; by default that of the data set's task",
        by_task=True,
    )
    training_step: Choice[TrainingStep] = declare(
        Role.METHOD,
        "a training step of one's own: the losses of a batch, in place of the loss in training",
        NONE,
        names_trial=True,
        new=True,
    )
    training_loop: Choice[TrainingLoop] = declare(
        Role.METHOD,
        "a whole training of one's own, in place of the harness's; a trial with one may do without "
        "dataset, model, optimizer and lr",
        NONE,
        names_trial=True,
        new=True,
    )
    seed: int = declare(
        Role.SEED,
        "seed of all random streams: weights, order, dropout, split",
        0,
        stackable=True,
        names_trial=True,
        not_searched="it would pick the luckiest one",
        ge=0,
        lt=2**32,
    )
    device: str = declare(
        Role.DEVICE,
        "where the trial trains; `auto` takes the fastest device available",
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:(0|[1-9][0-9]*))?)$",
        examples=["auto", "cpu", "mps", "cuda", "cuda:0"],
    )
    epochs: int = declare(Role.BUDGET, "passes over the training examples", 10, ge=1)
    batch_size: int = declare(Role.SETTING, "examples in each training batch", 64, ge=1)
    eval_batch_size: int = declare(
        Role.MEASUREMENT,
        "examples in each evaluation batch; it changes results by rounding alone",
        2048,
        not_searched="it changes nothing about the training",
        ge=1,
    )
    val_fraction: float = declare(
        Role.SETTING,
        "fraction of the training examples that is held out for validation",
        0.1,
        not_searched="trials must be judged on the same examples",
        ge=0,
        lt=1,
    )
    eval_every: int = declare(
        Role.MEASUREMENT, "epochs between evaluations; the last epoch is always evaluated", 1, ge=1
    )
    log_every: int = declare(
        Role.MEASUREMENT, "batches between recorded batch losses; 0 records none", 0, ge=0
    )
    augment: tuple[Choice[Augmentation], ...] = declare(
        Role.SETTING, "random changes of the training images", NO_AUGMENTATION
    )
    precision: Precision = declare(Role.SETTING, "precision of the arithmetic in training", "fp32")
    grad_clip: float | None = declare(
        Role.SETTING,
        "largest global norm of the gradient; null does not clip it",
        None,
        stackable=True,
        gt=0,
    )
    metrics: Names = declare(
        Role.MEASUREMENT,
        "metrics recorded at each evaluation, beside the one that trials are selected on; by "
        "default those of the data set's task. The task's others are recorded once, at the end",
        by_task=True,
        not_searched="it changes nothing about the training",
    )

    @property
    def has_own_loop(self) -> bool:
        """Whether a training loop of a user's own trains it, and not the harness."""
        return self.training_loop.name != NONE

    def described(self) -> dict[str, Any]:
        """Returns all fields by name, but for new ones at their default."""
        fields = {name: getattr(self, name) for name in TRIAL_FIELDS}
        return {name: value for name, value in fields.items() if not is_left_out(name, value)}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the user's code that is active before the components that may come from it:
        another process activates it as it reads the code, and then finds the components."""
        values = {name: getattr(self, name) for name in TRIAL_FIELDS}
        return _unpickle, (_ActiveCode(active_code()), values)

    def codes(self) -> dict[str, dict[str, str]]:
        """Returns the identity of the user's code that components come from, by the trial's field
        and the component's name; empty if there is no such component."""
        codes: dict[str, dict[str, str]] = {}
        for name, kind in KIND_OF_FIELD.items():
            value = getattr(self, name)
            for item in value if isinstance(value, tuple) else (value,):
                component = item.component if isinstance(item, Choice) else find(kind, item)
                if component.code:
                    codes.setdefault(name, {})[component.name] = component.code
        return codes

    def resolved(self) -> dict[str, Any]:
        """Returns every field and option as JSON-able values; `of` reads them back."""
        return {name: plain(value) for name, value in self.described().items()}

    def identity(self) -> dict[str, Any]:
        """Returns what the trial's id is made of, by field (see `field_identity`)."""
        return {name: field_identity(name, value) for name, value in self.described().items()}

    def fingerprint(self, data_root: Path) -> Fingerprint:
        """Returns the checksums of the data set and of any weights file, as they are now."""
        data = self.dataset.component.fingerprint(self.dataset.options, data_root)
        return Fingerprint(data, self.model.component.fingerprint(self.model.options))

    def flat(self) -> dict[str, str]:
        """Returns every field and option as one canonical text each: {"model": "mlp",
        "model.hidden": "[24, 24]", "lr": "0.001", …}."""
        flat: dict[str, str] = {}
        for name, value in self.described().items():
            if isinstance(value, Choice):
                flat[name] = value.name
                options = value.options.model_dump(mode="json")
                flat |= {f"{name}.{key}": format_value(option) for key, option in options.items()}
            else:
                flat[name] = field_label(name, value)
        return flat

    @classmethod
    def of(cls, resolved: Mapping[str, Any]) -> Trial:
        """Builds a trial from what `resolved` returns. Raises as `Choice.of` does."""
        values = {**NEW_FIELDS, **resolved}
        for name, kind in COMPONENT_FIELDS.items():
            values[name] = Choice.of(kind, values[name])
        for name, kind in COMPONENT_LIST_FIELDS.items():
            values[name] = [Choice.of(kind, item) for item in values[name]]
        for name in LIST_FIELDS:
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class _ActiveCode:
    """The user's code of a pickled trial. Unpickling it activates it."""

    code: UserCode | None

    def __reduce__(self) -> tuple[Any, ...]:
        return activate, (self.code,)


def _unpickle(_code: None, values: Mapping[str, Any]) -> Trial:
    return Trial(**values)


def _find_choice(kind: str, resolved: Mapping[str, Any], code: str) -> Choice[Any]:
    """Returns a pickled choice. Raises InputError if its code is not what it was then."""
    choice = Choice.of(kind, resolved)
    if choice.component.code != code:
        raise InputError(f"the code of {choice.name} has changed since the trial was planned")
    return choice


def new_options(kind: str, name: str) -> dict[str, Any]:
    """Returns the options that a component got after its first release, at their defaults, as
    `Choice.resolved` has them. Empty for a component that is not registered."""
    try:
        options = find(kind, name).options
    except InputError:
        return {}
    fields = options.model_fields.items()
    new = {option for option, info in fields if _marked(info, NEW_OPTION)}
    defaults = {option: options.model_fields[option].default for option in new}
    return options.model_construct(**defaults).model_dump(mode="json", include=new)


def plain(value: Any) -> Any:
    """Returns a field's value in JSON-able form."""
    if isinstance(value, Choice):
        return value.resolved()
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def is_left_out(name: str, value: Any) -> bool:
    """Whether a field is new and has its default, so that nothing describes it."""
    return name in NEW_FIELDS and plain(value) == NEW_FIELDS[name]


def is_absent(name: str, value: Any) -> bool:
    """Whether a field says that the trial has no such component, or no learning rate."""
    return value.name == NONE if isinstance(value, Choice) else name == "lr" and value == NO_LR


def field_identity(name: str, value: Any) -> Any:
    """Returns what stands for the value of a trial field in the trial's id, as a JSON-able value:
    the value itself, without paths and new options at their default."""
    if isinstance(value, Choice):
        return value.identity()
    if isinstance(value, tuple):
        return [field_identity(name, item) for item in value]
    if name == "metrics" and (code := find("metrics", value).code):
        return {"name": object_name(value), "code": code}
    return REVISED_VALUES.get((name, value), value)


TYPES: Final[Mapping[str, Any]] = get_type_hints(Trial, include_extras=True)
"""The type of each trial field."""
DECLARATIONS: Final[Mapping[str, Declaration]] = {
    f.name: f.metadata["declaration"] for f in fields(Trial)
}
TRIAL_FIELDS: Final = tuple(DECLARATIONS)


def _component_kind(annotation: Any) -> str:
    """Returns the kind of `Choice[Model]`, and "" for a type that is not a choice."""
    return str(get_args(annotation)[0].kind) if get_origin(annotation) is Choice else ""


_PLAIN_TYPES: Final = get_type_hints(Trial)
LIST_FIELDS: Final = tuple(n for n, hint in _PLAIN_TYPES.items() if get_origin(hint) is tuple)
"""Trial fields whose value is a list."""
COMPONENT_FIELDS: Final[Mapping[str, str]] = {
    name: kind for name, hint in _PLAIN_TYPES.items() if (kind := _component_kind(hint))
}
"""Trial fields that hold one component, and its kind."""
COMPONENT_LIST_FIELDS: Final[Mapping[str, str]] = {
    name: kind for name in LIST_FIELDS if (kind := _component_kind(get_args(_PLAIN_TYPES[name])[0]))
}
"""Trial fields that hold a list of components, and their kind."""
KIND_OF_FIELD: Final[Mapping[str, str]] = {
    **COMPONENT_FIELDS,
    **COMPONENT_LIST_FIELDS,
    "metrics": "metrics",
}
"""The kind of component that a trial field names, in whatever way."""


NEW_FIELDS: Final[Mapping[str, Any]] = {
    name: {"name": declared.info.default} if name in COMPONENT_FIELDS else declared.info.default
    for name, declared in DECLARATIONS.items()
    if declared.new
}
"""Trial fields that came after version 1.0, with their defaults in JSON-able form."""


def fields_with(*roles: Role) -> tuple[str, ...]:
    """Returns the trial fields of some roles, in the order of their declaration."""
    return tuple(name for name, declared in DECLARATIONS.items() if declared.role in roles)


TASK_FIELDS: Final = fields_with(Role.TASK)
METHOD_FIELDS: Final = fields_with(Role.METHOD)
MAIN_FIELDS: Final = fields_with(Role.TASK, Role.METHOD)
"""Trial fields that tables show first, each in a column of its own."""
MAIN_COMPONENTS: Final = tuple(name for name in MAIN_FIELDS if name in COMPONENT_FIELDS)
"""Main fields whose values need no name beside them: "mlp adam", but "lr 0.1"."""
STACKABLE_FIELDS: Final = frozenset(n for n, declared in DECLARATIONS.items() if declared.stackable)
"""Trial fields in which the trials of one stack may differ; they agree in all others."""
DEVICE_FIELDS: Final = fields_with(Role.DEVICE)
NOT_IN_CONFIG_ID: Final = fields_with(Role.SEED)
"""Trial fields in which the trials of one config differ."""
NOT_IN_LINEAGE_ID: Final = fields_with(Role.BUDGET)
"""Trial fields in which the trials of one lineage differ."""


def value_label(value: Any) -> str:
    """Returns a value as `Trial` takes it, or a list of them, as one text for people."""
    if isinstance(value, tuple):
        return format_value([value_label(item) for item in value])
    return value.label if isinstance(value, Choice) else format_value(value)


def field_label(name: str, value: Any) -> str:
    """Returns the value of a trial field, or of an option, as one text for people."""
    return NO_AUGMENTATION if name in COMPONENT_LIST_FIELDS and not value else value_label(value)


def config_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a trial's identity that the trials of one config share."""
    return {name: value for name, value in identity.items() if name not in NOT_IN_CONFIG_ID}


def id_part(name: str, value: Any) -> str:
    """Returns one field of a trial's `identity()` as the text that enters its ids."""
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f'"{name}":{written}'


def make_id(parts: Iterable[str], fingerprint: Fingerprint) -> str:
    """Returns 16 hex digits of a hash of an identity, given as its parts in alphabetical order.

    Paths, times and the order of a grid have no part in the id.
    """
    data = json.dumps(str(fingerprint))
    trial = ",".join(parts)
    content = f'{{"data":{data},"semantics":{SEMANTICS_VERSION},"trial":{{{trial}}}}}'
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def make_trial_id(identity: Mapping[str, Any], fingerprint: Fingerprint) -> str:
    """Returns the id of a trial from its `identity()`."""
    return make_id([id_part(name, identity[name]) for name in sorted(identity)], fingerprint)


def make_config_id(identity: Mapping[str, Any], fingerprint: Fingerprint) -> str:
    """Returns the id that trials share which differ in the seed alone."""
    return make_trial_id(config_identity(identity), fingerprint)


def make_lineage_id(identity: Mapping[str, Any], fingerprint: Fingerprint) -> str:
    """Returns the id that trials share which differ in `epochs` alone. They are the same training
    until the shorter one ends, unless a schedule depends on the length of the whole."""
    shared = {name: value for name, value in identity.items() if name not in NOT_IN_LINEAGE_ID}
    return make_trial_id(shared, fingerprint)
