"""The parent run of a sweep or a study: its name and note, its lease, and its trials' outcomes."""

from __future__ import annotations

import html
import json
import shlex
from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from harness.core.metrics import BEST, Goal
from harness.core.records import Outcome
from harness.core.text import format_value, plural
from harness.experiment.plan import Plan
from harness.experiment.plan_summary import PlanSummary
from harness.store import names
from harness.store.coordination.leases import Lease
from harness.store.coordination.processes import process_tag
from harness.store.long_values import shorten
from harness.store.provenance import process_provenance
from harness.store.retry import with_retries
from harness.store.store import Store
from harness.store.uris import redact
from harness.store.write.backend import ClientBackend
from harness.store.write.trial_run import Contents, RunLog


class ParentRun:
    """The parent run of a sweep, or of one study of a search, with the lease that says it is alive.

    kind: `names.SWEEP` or `names.STUDY`. trials: how many are to be trained. title: in place of
    the kind in the run's name. outcomes: how many of its trials ended, by outcome. The experiment
    file, its plan, the source of the code that it names, and the provenance of this process are
    stored with the run.
    """

    def __init__(
        self,
        store: Store,
        experiment_id: str,
        plan: Plan,
        goal: Goal,
        kind: str,
        trials: int,
        title: str = "",
    ) -> None:
        _describe_experiment(store, experiment_id, plan)
        summary = PlanSummary.of(plan)
        tags = common_tags(plan, goal) | {
            names.TAG_KIND: kind,
            names.TAG_HEARTBEAT: "0",
            names.TAG_PLAN: summary.sha256 + (names.OVERRIDDEN if summary.overrides else ""),
            names.TAG_EXPECT: json.dumps([asdict(figure) for figure in plan.experiment.expect]),
            "mlflow.note.content": parent_note(plan, kind, trials),
        }
        now = f"{datetime.now().astimezone():%Y-%m-%d %H:%M}"
        name = f"{title or kind} {now} ({plural(trials, 'trial')})"
        self._log = RunLog(ClientBackend(store), experiment_id, name, tags)
        self._log.files(_parent_files(plan, summary))
        self.run_id = self._log.run_id
        self.lease = Lease(store, experiment_id, self.run_id)
        self.outcomes: Counter[Outcome] = Counter()

    def end(self, status: str = "") -> None:
        """Closes the run. status: by default FINISHED, or FAILED if a trial failed."""
        for outcome in Outcome:
            self._log.metrics({f"trials/{outcome.value}": self.outcomes[outcome]}, 0)
        self._log.end(status or ("FAILED" if self.outcomes[Outcome.FAILED] else "FINISHED"))


def _parent_files(plan: Plan, summary: PlanSummary) -> Contents:
    provenance = process_provenance(folder_of(plan))
    texts = provenance.diffs() | {names.PLAN_FILE: summary.to_json()}
    source = plan.experiment.source
    if source.identities:
        texts[names.CODE_FILE] = source.to_json(redact)
    if plan.experiment.written:
        texts["experiment.yaml"] = plan.experiment.written
    elif plan.experiment.path.is_file():
        texts["experiment.yaml"] = plan.experiment.path.read_text(encoding="utf-8")
    # The address of a search's storage, for one, may contain a password.
    redacted = {name: redact(text) for name, text in texts.items()}
    packages = {"packages": dict(provenance.packages)}
    return {**redacted, names.PROVENANCE_FILE: {**provenance.metadata, **packages}}


def folder_of(plan: Plan) -> Path:
    """Returns the folder of the experiment file."""
    return plan.experiment.path.resolve().parent


def common_tags(plan: Plan, goal: Goal) -> dict[str, str]:
    """Returns the tags that parent and trial runs share."""
    tags = process_provenance(folder_of(plan)).tags() | {
        names.TAG_PROCESS: process_tag(),
        names.TAG_METRIC: goal.metric,
        names.TAG_DIRECTION: goal.direction,
    }
    if goal.target is not None:
        tags[names.TAG_TARGET] = format_value(goal.target)
    return tags


def parent_note(plan: Plan, kind: str, trials: int) -> str:
    """Returns what the run is and how to look at it, in Markdown."""
    experiment = plan.experiment
    better = "higher" if experiment.direction == "max" else "lower"
    target = "" if experiment.target is None else f", target {format_value(experiment.target)}"
    planned = plural(len(plan.trials), "trial")
    source = f"{code(experiment.name)}, from {code(experiment.path.name)}"
    plans = "" if kind == names.STUDY else f"{planned} planned, "
    lines = [
        f"A {kind} of {source}: {plans}{trials} to run now.",
        f"Selected on {code(experiment.metric)} ({better} is better{target}).",
    ]
    if experiment.description:
        lines.insert(0, html.escape(experiment.description))
    if experiment.axes:
        axes = (f"{code(axis.field)} ({len(axis.values)})" for axis in experiment.axes)
        several = len(experiment.grid.parts)
        grids = f", in {several} grids that each have some of the values" if several > 1 else ""
        lines.append(f"Axes: {' × '.join(axes)}{grids}.")
    if plan.skipped:
        reasons = sorted({skip.because for skip in plan.skipped})
        lines.append(
            f"{plural(len(plan.skipped), 'combination')} skipped: "
            + "; ".join(html.escape(reason) for reason in reasons[:10])
        )
    lines.append(
        "To compare: select the child runs and press *Compare*; in *Parallel coordinates* take "
        f"`lr`, `optimizer` and `scheduler` with {code(BEST + experiment.metric)}. "
        "In the run table, *Group by* a param gives means over seeds. In a terminal: "
        f"{code(f'python -m harness.compare {shlex.quote(experiment.name)}')}."
    )
    return "\n\n".join(lines)


def code(text: str) -> str:
    """Returns `text` as Markdown code, which it cannot break out of."""
    return f"`{html.escape(text.replace('`', chr(39)), quote=False)}`"


def _describe_experiment(store: Store, experiment_id: str, plan: Plan) -> None:
    """Makes the UI open the experiment as one of training runs, with its metric first."""
    from mlflow.utils.validation import MAX_EXPERIMENT_TAG_VAL_LENGTH

    experiment = plan.experiment
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": BEST + experiment.metric,
        "mlflow.experiment.primaryMetric.greaterIsBetter": format_value(
            experiment.direction == "max"
        ),
    }
    if experiment.description:
        tags["mlflow.note.content"] = html.escape(experiment.description)
    short, _ = shorten(tags, MAX_EXPERIMENT_TAG_VAL_LENGTH)
    for name, value in short.items():
        set_tag = store.client.set_experiment_tag
        with_retries("describe the experiment", set_tag, experiment_id, name, value)
