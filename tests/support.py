"""Helpers for tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from harness.components.base import Component, DataInfo
from harness.components.registry import components, find
from harness.diagnostics.contract.case import Case
from harness.diagnostics.contract.checks import examine
from harness.experiment.trial import COMPONENT_FIELDS, Choice, Trial

ComponentT = TypeVar("ComponentT", bound=Component)

TASKS: dict[str, dict[str, Any]] = {
    "labels": {
        "dataset": {"name": "generated_labels", "examples": 120},
        "loss": "bce",
        "metrics": ["mean_average_precision", "micro_f1"],
    },
    "ordered classes": {
        "dataset": {"name": "generated_ranks", "examples": 120},
        "loss": "corn",
        "metrics": ["qwk", "rank_mae"],
    },
    "ordered classes by coral": {
        "dataset": {"name": "generated_ranks", "examples": 120},
        "loss": "coral",
        "metrics": ["qwk"],
    },
    "counts": {
        "dataset": {"name": "generated_counts", "examples": 120},
        "loss": "poisson",
        "metrics": ["mae", "rmse"],
    },
    "autoencoder of images": {
        "dataset": {"name": "digits", "task": "autoencoding", "limit": 200},
        "loss": "mse",
        "metrics": ["mse"],
    },
    "autoencoder of a table": {
        "dataset": {"name": "iris", "task": "autoencoding", "stratify": True},
        "loss": "l1",
        "metrics": ["mae"],
    },
}
"""Fields of small trials of the tasks that are neither a classification nor a regression."""


def registered(kind: type[ComponentT]) -> dict[str, ComponentT]:
    """The registered components of a class, such as `Metric`, by name."""
    found = components(kind.kind)
    return {name: record for name, record in found.items() if isinstance(record, kind)}


def find_component(kind: type[ComponentT], name: str) -> ComponentT:
    """The component of a class and a name, which need not be registered."""
    record = find(kind.kind, name)
    assert isinstance(record, kind)
    return record


def make_trial(**fields: Any) -> Trial:
    """A small trial on digits; components by name, or as a mapping with `name` and options."""
    values: dict[str, Any] = {
        "dataset": "digits",
        "model": {"name": "mlp", "hidden": [16]},
        "optimizer": "sgd",
        "lr": 0.1,
        "scheduler": "constant",
        "training_step": "none",
        "training_loop": "none",
        "loss": "cross_entropy",
        "seed": 0,
        "device": "cpu",
        "epochs": 2,
        "batch_size": 64,
        "eval_batch_size": 512,
        "val_fraction": 0.1,
        "eval_every": 1,
        "log_every": 0,
        "augment": [],
        "precision": "fp32",
        "grad_clip": None,
        "metrics": ["accuracy"],
    } | fields
    for name, kind in COMPONENT_FIELDS.items():
        values[name] = _whole(kind, values[name])
    values["augment"] = [_whole("augmentations", choice) for choice in values["augment"]]
    return Trial.of(values)


def _whole(kind: str, choice: str | dict[str, Any]) -> dict[str, Any]:
    whole = {"name": choice} if isinstance(choice, str) else choice
    name = whole["name"]
    assert ":" in name or name in components(kind), f"no {name} among {kind}"
    return whole


def assert_keeps_contract(
    choice: Choice[Any],
    info: DataInfo,
    outputs: int = 0,
    data_root: Path = Path("nowhere"),
    notes: str = "",
    lacks: str = "",
) -> None:
    """Runs the checks that `python -m harness check` runs over a user's components. Those of the
    package must not even give a note. notes: a pattern of those that are meant. lacks: the one
    thing that this component is known to lack."""
    findings = examine(Case(choice, info, outputs, data_root), Path("nowhere"))
    assert findings
    lacking = [f"{found.rule} {found.lacks}" for found in findings if found.lacks]
    if lacks:
        assert len(lacking) == 1, lacking
        assert lacks in lacking[0]
    else:
        assert not lacking, lacking
    given = [note for found in findings for note in found.notes]
    others = [note for note in given if not (notes and re.match(notes, note))]
    assert not others, others
