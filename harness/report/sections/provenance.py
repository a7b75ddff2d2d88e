"""Where the figures come from: code, machine, packages, times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.analysis.comparison import Comparison
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.section import Section


@dataclass(frozen=True, slots=True)
class Fact:
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """facts: over all trials that are compared; several values where they differ. parent: the
    newest sweep's or study's own provenance, empty where it cannot be read."""

    facts: tuple[Fact, ...]
    parent: Mapping[str, Any]


def record(comparison: Comparison) -> Provenance:
    trials = comparison.trials
    started = trials["started"].dropna()
    facts = [
        Fact("experiment", (comparison.experiment,)),
        Fact("first trial started (UTC)", _moment(started.min() if len(started) else None)),
        Fact("last trial started (UTC)", _moment(started.max() if len(started) else None)),
        Fact("harness", _values(trials["version"])),
        Fact("git commit", _values(trials["git_commit"])),
        Fact("uncommitted changes", ("yes",) if trials["git_dirty"].any() else ("no",)),
        Fact("host", _values(trials["host"])),
        Fact("device", _values(trials["device_used"])),
        Fact("processor", _values(trials["device_name"])),
        Fact("alone on its device", _values(trials["exclusive"].map({True: "yes", False: "no"}))),
    ]
    parent = comparison.details.provenance() if comparison.details else {}
    return Provenance(tuple(fact for fact in facts if fact.values), parent)


def blocks(provenance: Provenance) -> tuple[Block, ...]:
    rows = [(fact.name, ", ".join(fact.values)) for fact in provenance.facts]
    rows += [
        (name, str(provenance.parent[name]))
        for name in ("python", "os")
        if name in provenance.parent
    ]
    packages = provenance.parent.get("packages")
    if isinstance(packages, Mapping):
        told = ", ".join(f"{name} {packages[name]}" for name in KEY_PACKAGES if name in packages)
        rows.append(("packages", told))
    mixed = [
        fact.name
        for fact in provenance.facts
        if len(fact.values) > 1 and fact.name in ("harness", "git commit", "host")
    ]
    notes = []
    if mixed:
        notes.append(Paragraph(f"Trials differ in {', '.join(mixed)}.", "caution"))
    return (Table((Column("of these results"), Column("is")), tuple(rows)), *notes)


KEY_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "mlflow")


def _values(column: pd.Series[Any]) -> tuple[str, ...]:
    return tuple(sorted({str(value) for value in column.dropna() if value != ""}))


def _moment(moment: Any) -> tuple[str, ...]:
    return () if moment is None or pd.isna(moment) else (f"{moment:%Y-%m-%d %H:%M:%S}",)


SECTION = Section(name="provenance", title="Provenance", place=130, record=record, blocks=blocks)
