"""Finds the plan that the last sweep or search of an experiment file stored with its run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from harness.core.errors import InputError, StoreError
from harness.experiment.plan_summary import LONGEST, PlanSummary
from harness.store import names
from harness.store.read.run_files import read_text
from harness.store.read.runs import search_runs
from harness.store.retry import with_retries

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan that a sweep or a search stored. started: when that began, for people."""

    summary: PlanSummary
    run_id: str
    started: str


def last_plan(store: Store, experiment: str, sha256: str) -> StoredPlan | None:
    """Returns the newest plan of the file with this checksum as it is, without overrides; else the
    newest plan of the experiment; None if it has none.

    Raises StoreError if what is stored is no plan.
    """
    find = store.client.get_experiment_by_name
    stored = with_retries(f"read {store.label}", find, experiment)
    if stored is None:
        return None
    is_parent = f"tags.`{names.TAG_KIND}` != '{names.TRIAL}'"
    found = search_runs(store, [stored.experiment_id], is_parent, newest_first=True)
    parents = [run for run in found if names.TAG_PLAN in run.data.tags]
    of_file = [run for run in parents if run.data.tags[names.TAG_PLAN] == sha256]
    return _read(store, (of_file or parents)[0]) if parents else None


def _read(store: Store, run: Run) -> StoredPlan:
    run_id = run.info.run_id
    try:
        text = read_text(store, run_id, run.info.artifact_uri, names.PLAN_FILE, LONGEST + 1)
        summary = PlanSummary.parse(text)
        started = datetime.fromtimestamp(run.info.start_time / 1000).astimezone()
    except (InputError, OSError, ValueError, TypeError, OverflowError) as error:
        reason = f"{names.PLAN_FILE} of run {run_id} is no plan: {error}"
        raise StoreError(reason) from None
    return StoredPlan(summary, run_id, f"{started:%Y-%m-%d %H:%M}")
