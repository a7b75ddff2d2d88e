"""A trial, resolved: every field set, every component chosen with its validated options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, Literal, TypeVar

from harness.components.base import (
    Augmentation,
    Component,
    Dataset,
    Loss,
    Model,
    Optimizer,
    Options,
    Scheduler,
)
from harness.components.registry import find
from harness.core.text import format_value

SEMANTICS_VERSION = 1
"""Raised when training changes so that the same trial gives other numbers."""

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
        """Pickles by name: the other process finds its own component."""
        return Choice.of, (self.component.kind, self.resolved())

    @property
    def name(self) -> str:
        return self.component.name

    def resolved(self) -> dict[str, Any]:
        """{"name": …, option: value, …}, JSON-able."""
        return {"name": self.name, **self.options.model_dump(mode="json")}

    def identity(self) -> dict[str, Any]:
        """`resolved()` without what says only where its content lies (see `base.not_in_id`)."""
        places = {
            name
            for name, field in type(self.options).model_fields.items()
            if isinstance(field.json_schema_extra, dict)
            and field.json_schema_extra.get("not_in_id")
        }
        return {key: value for key, value in self.resolved().items() if key not in places}

    @property
    def label(self) -> str:
        """The name, and in brackets the options that are not at their defaults."""
        changed = [
            f"{name}={format_value(getattr(self.options, name))}"
            for name, field in type(self.options).model_fields.items()
            if getattr(self.options, name) != field.get_default(call_default_factory=True)
        ]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @classmethod
    def of(cls, kind: str, resolved: Mapping[str, Any]) -> Choice[Any]:
        """From `resolved()`'s form. Raises InputError or pydantic's ValidationError."""
        component: Any = find(kind, resolved["name"])
        options = {key: value for key, value in resolved.items() if key != "name"}
        return cls(component, component.options.model_validate(options))


COMPONENT_FIELDS: Mapping[str, str] = {
    "dataset": "datasets",
    "model": "models",
    "optimizer": "optimizers",
    "scheduler": "schedulers",
    "loss": "losses",
}
"""Trial fields that hold one component, and its kind. `augment` holds a list of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training run.

    lr: the base learning rate. epochs: passes over the training split. val_fraction: part of the
    training examples kept for validation, in [0, 1). eval_every: epochs between evaluations (the
    last epoch is always evaluated). log_every: batches between recorded batch losses, 0 for none.
    grad_clip: the largest global gradient norm, or None. metrics: recorded at each evaluation,
    besides the loss; all others of the task are recorded once, at the end.
    """

    dataset: Choice[Dataset]
    model: Choice[Model]
    optimizer: Choice[Optimizer]
    lr: float
    scheduler: Choice[Scheduler]
    loss: Choice[Loss]
    seed: int
    device: str
    epochs: int
    batch_size: int
    eval_batch_size: int
    val_fraction: float
    eval_every: int
    log_every: int
    augment: tuple[Choice[Augmentation], ...]
    precision: Precision
    grad_clip: float | None
    metrics: tuple[str, ...]

    def resolved(self) -> dict[str, Any]:
        """Every field and option as JSON-able values; what `of` reads."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def identity(self) -> dict[str, Any]:
        """What the trial's id is made of: `resolved()` without paths."""
        return {f.name: _plain(getattr(self, f.name), identity=True) for f in fields(self)}

    def flat(self) -> dict[str, str]:
        """Every field and option as one canonical text each: {"model": "mlp",
        "model.hidden": "[24, 24]", "lr": "0.001", …}."""
        flat: dict[str, str] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Choice):
                flat[f.name] = value.name
                options = value.options.model_dump(mode="json")
                flat.update(
                    {f"{f.name}.{key}": format_value(option) for key, option in options.items()}
                )
            elif f.name == "augment":
                flat[f.name] = format_value([choice.label for choice in value]) if value else "none"
            else:
                flat[f.name] = format_value(value)
        return flat

    @classmethod
    def of(cls, resolved: Mapping[str, Any]) -> Trial:
        """From `resolved()`'s form."""
        values = dict(resolved)
        for name, kind in COMPONENT_FIELDS.items():
            values[name] = Choice.of(kind, values[name])
        values["augment"] = tuple(Choice.of("augmentations", a) for a in values["augment"])
        values["metrics"] = tuple(values["metrics"])
        return cls(**values)


def _plain(value: Any, identity: bool = False) -> Any:
    if isinstance(value, Choice):
        return value.identity() if identity else value.resolved()
    if isinstance(value, tuple):
        return [_plain(item, identity) for item in value]
    return value


def digest(identity: Mapping[str, Any], fingerprint: str) -> str:
    """The id of a trial's `identity()`, or of a config's (`seed` left out): 16 hex digits.

    fingerprint: checksum of the data set and of any weights file. Paths, times and the order of a
    grid have no part in it.
    """
    content = {"trial": identity, "data": fingerprint, "semantics": SEMANTICS_VERSION}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def lineage(identity: Mapping[str, Any], fingerprint: str) -> str:
    """What trials share that differ in `epochs` alone: 16 hex digits. Until the shorter one ends
    they are the same training, unless a schedule depends on the length of the whole."""
    return digest(
        {name: value for name, value in identity.items() if name != "epochs"}, fingerprint
    )
