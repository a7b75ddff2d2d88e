"""Where the results come from: code, machine, packages, times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.analysis.comparison import Comparison
from harness.report.blocks import Block, Paragraph, ReportTable, columns
from harness.report.section import Section

KEY_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "mlflow")
MUST_AGREE = ("harness", "git commit", "host")


@dataclass(frozen=True, slots=True)
class ProvenanceFact:
    """values: several if the trials differ."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """facts: over all trials that are compared. parent: the newest sweep's or study's own
    provenance, empty if it cannot be read."""

    facts: tuple[ProvenanceFact, ...]
    parent: Mapping[str, Any]


def record(comparison: Comparison) -> Provenance:
    trials, external = comparison.trials, comparison.external
    started = [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in trials["started"].dropna().sort_values()]
    exclusive = trials["exclusive"].map({True: "yes", False: "no"})
    facts = {
        "experiment": (comparison.experiment,),
        "first trial started (UTC)": tuple(started[:1]),
        "last trial started (UTC)": tuple(started[-1:]),
        "harness": _values(trials["version"]),
        "git commit": _values(trials["git_commit"]),
        "uncommitted changes": _uncommitted(trials["git_dirty"].dropna()),
        "host": _values(trials["host"]),
        "device": _values(trials["device_used"]),
        "processor": _values(trials["device_name"]),
        "alone on its device": _values(exclusive),
    }
    if external is not None:
        facts |= {name: (value,) for name, value in external.facts}
    parent = comparison.details.provenance() if comparison.details else {}
    return Provenance(
        tuple(ProvenanceFact(name, values) for name, values in facts.items() if values), parent
    )


def blocks(provenance: Provenance) -> tuple[Block, ...]:
    parent = provenance.parent
    rows = [(fact.name, ", ".join(fact.values)) for fact in provenance.facts]
    rows += [(name, str(parent[name])) for name in ("python", "os") if name in parent]
    packages = parent.get("packages")
    if isinstance(packages, Mapping):
        versions = [f"{name} {packages[name]}" for name in KEY_PACKAGES if name in packages]
        rows.append(("packages", ", ".join(versions)))
    table = ReportTable(columns("property", "value"), tuple(rows))
    mixed = [f.name for f in provenance.facts if f.name in MUST_AGREE and len(f.values) > 1]
    caution = Paragraph(f"Trials differ in {', '.join(mixed)}.", "caution")
    return (table, caution) if mixed else (table,)


def _uncommitted(dirty: pd.Series[Any]) -> tuple[str, ...]:
    """Returns "yes" if a trial's repository had changes; nothing if that is not known of any."""
    if dirty.empty:
        return ()
    return ("yes",) if dirty.any() else ("no",)


def _values(column: pd.Series[Any]) -> tuple[str, ...]:
    return tuple(sorted({str(value) for value in column.dropna() if value != ""}))


SECTION = Section("provenance", "Provenance", record, blocks, order=130)
