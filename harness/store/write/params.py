"""Params of runs: the same keys on every run of a sweep, so that the UI can group and compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import Choice, Trial
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL


class ParamTable:
    """The params of a sweep's runs: every trial field, and each component option that some trial
    moves from its default or that the grid names. A run whose component lacks the option has
    `names.ABSENT`."""

    def __init__(self, plan: Plan) -> None:
        trials = [planned.trial for planned in plan.trials]
        fields = {key for trial in trials for key in trial.flat() if "." not in key}
        named = {axis.field for axis in plan.experiment.axes}
        self.keys = tuple(sorted(fields | named | _moved(trials)))

    def of(self, planned: PlannedTrial) -> dict[str, str]:
        """{key: canonical text} of a run, `trial_id` and `config_id` among them."""
        flat = planned.trial.flat()
        values = {key: flat.get(key, ABSENT) for key in self.keys}
        return values | {PARAM_TRIAL: planned.trial_id, PARAM_CONFIG: planned.config_id}


def _moved(trials: Iterable[Trial]) -> set[str]:
    """Dotted names of options that are not at their component's default somewhere."""
    seen: dict[tuple[str, str], Choice[Any]] = {}
    for trial in trials:
        for name in Trial.__dataclass_fields__:
            value = getattr(trial, name)
            if isinstance(value, Choice):
                seen.setdefault((name, value.label), value)
    return {f"{name}.{option}" for (name, _), choice in seen.items() for option in changed(choice)}


def changed(choice: Choice[Any]) -> Mapping[str, Any]:
    """A component's options that are not at their defaults."""
    return {
        name: getattr(choice.options, name)
        for name, field in type(choice.options).model_fields.items()
        if getattr(choice.options, name) != field.get_default(call_default_factory=True)
    }
