"""Finds stored runs that were trained by other code of a user's than a plan's trials."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from harness.components.registry import object_name
from harness.experiment.plan import PlannedTrial

if TYPE_CHECKING:
    from harness.store.store import Store


def count_runs_of_other_code(
    store: Store, experiment_id: str, planned: Iterable[PlannedTrial]
) -> dict[str, int]:
    """Returns how many finished runs of the experiment have a component of a plan's trials, but
    with other code, by the component's name."""
    current: dict[tuple[str, str], set[str]] = defaultdict(set)
    for text in {json.dumps(trial.trial.codes()) for trial in planned}:
        for component, code in _components(read_codes(text)):
            current[component].add(code)
    counts: Counter[str] = Counter()
    for text, count in store.finished_by_code(experiment_id).items():
        changed = {
            component[1]
            for component, code in _components(read_codes(text))
            if component in current and code not in current[component]
        }
        counts.update(dict.fromkeys(changed, count))
    return dict(sorted(counts.items()))


def read_codes(tag: str) -> dict[str, dict[str, str]]:
    """Returns what `names.TAG_CODE` says, whoever wrote it (see `Trial.codes`)."""
    try:
        stored = json.loads(tag or "{}")
    except (ValueError, RecursionError):
        return {}
    return {
        field: {name: str(code) for name, code in codes.items()}
        for field, codes in (stored.items() if isinstance(stored, dict) else ())
        if isinstance(codes, dict)
    }


def _components(codes: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yields each component's field and name, without the path of its file, and its code."""
    for field, by_name in codes.items():
        for name, code in by_name.items():
            yield (field, object_name(name)), code
