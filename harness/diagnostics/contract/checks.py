"""Cases, and the checks that are run on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.components.code.source import line_of
from harness.core.errors import InputError, first_line
from harness.core.text import plural
from harness.diagnostics.contract import (
    augmentations,
    datasets,
    losses,
    metrics,
    models,
    optimizers,
    schedulers,
    training_steps,
)
from harness.diagnostics.contract.case import Case, Check, Lacking
from harness.diagnostics.contract.own_code import own_components
from harness.experiment.experiment import Experiment

CONTRACTS: Final[Mapping[str, Sequence[Check]]] = {
    "models": models.CHECKS,
    "optimizers": optimizers.CHECKS,
    "schedulers": schedulers.CHECKS,
    "datasets": datasets.CHECKS,
    "losses": losses.CHECKS,
    "metrics": metrics.CHECKS,
    "augmentations": augmentations.CHECKS,
    "training_steps": training_steps.CHECKS,
}
"""The checks of each kind."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. rule: what it checked. lacks: "" if the component has it."""

    rule: str
    lacks: str = ""
    notes: tuple[str, ...] = ()


def examine(case: Case, folder: Path) -> list[Finding]:
    """Runs the checks of a component's kind. folder: of the user's files, whose lines are named."""
    return [run_check(check, case, folder) for check in CONTRACTS[case.choice.component.kind]]


def run_check(check: Check, case: Case, folder: Path) -> Finding:
    """Runs one check. Whatever the component's own code raises is what it lacks."""
    rule = (check.__doc__ or "").partition("\n")[0]
    try:
        return Finding(rule, notes=tuple(check(case)))
    except Lacking as lacking:
        return Finding(rule, lacks=str(lacking))
    except InputError as error:
        told = (f"{p.what}{_at(p.where)}{': ' if p.hint else ''}{p.hint}" for p in error.problems)
        return Finding(rule, lacks="; ".join(told))
    except Exception as error:  # noqa: BLE001 - a component may raise anything
        raised = f"it raises {type(error).__name__}: {first_line(error)}"
        return Finding(rule, lacks=raised + _at(line_of(error, folder)))


def _at(place: str) -> str:
    return f" ({place})" if place else ""


def check_own_components(
    experiment: Experiment, data_root: Path, folder: Path, say: Callable[[str], None]
) -> bool:
    """Checks the components of an experiment's own code, and says what each lacks. Returns whether
    none lacks anything."""
    own = own_components(experiment, data_root)
    cases = [case for case in own.cases if case.choice.component.kind in CONTRACTS]
    own.unchecked += [
        f"{case.label}: only training shows what it does (sweep with epochs=1)"
        for case in own.cases
        if case not in cases
    ]
    if not own.cases and not own.unchecked:
        say(f"{experiment.path} names no code of its own: nothing to check")
        return True
    failed = 0
    for case in cases:
        findings = examine(case, folder)
        lacking = [finding for finding in findings if finding.lacks]
        failed += bool(lacking)
        count = plural(len(findings), "check")
        say(f"{case.label}: " + (f"{len(lacking)} of {count} failed" if lacking else f"{count} ok"))
        for lacks, of in _by_reason(lacking).items():
            others = f" (and {plural(len(of) - 1, 'more check')})" if len(of) > 1 else ""
            say(f"  {of[0].rule}{others}\n      {lacks}")
        for note in (note for finding in findings for note in finding.notes):
            say(f"  note: {note}")
    for line in own.unchecked:
        say(f"not checked: {line}")
    total = plural(len(cases), "component")
    say(f"{total} checked: " + (f"{failed} lacking something" if failed else "nothing is lacking"))
    return not failed


def _by_reason(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Returns the findings by what is lacking: an error in the code fails many checks alike."""
    by_reason: dict[str, list[Finding]] = {}
    for finding in findings:
        by_reason.setdefault(finding.lacks, []).append(finding)
    return by_reason
