"""What a search says of itself in plain lines: before, and after its studies."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.text import plural
from harness.experiment.experiment import Search
from harness.tuning.points import StudyPlan
from harness.tuning.retraining import StudyResult
from harness.tuning.study import TuningStudy

MOST_OF_FRONT = 10


def announcement(
    name: str, search: Search, studies: Sequence[TuningStudy], lost: int, storage: str
) -> list[str]:
    """What is about to run."""
    n_studies = plural(len(studies), "study", "studies")
    begun = sum(study.n_asked() for study in studies)
    left = [study.remaining() for study in studies]
    labels = ", ".join(study.plan.label for study in studies)
    methods = f"sampler {search.sampler}, pruner {search.pruner}"
    lines = [
        f"{name}: {n_studies} ({labels}), {budget(search)}; {methods}",
        f"studies in {storage}",
    ]
    if begun:
        known = [number for number in left if number is not None]
        rest = f"; {sum(known)} to go" if len(known) == len(left) else ""
        lines.append(f"going on: {plural(begun, 'point')} asked before{rest}")
    if lost:
        lines.append(f"{plural(lost, 'point')} lost with their process, to be asked again")
    return lines


def outcome_lines(
    search: Search, studies: Sequence[TuningStudy], winners: Sequence[StudyResult]
) -> list[str]:
    """What each study found."""
    metric = search.objectives[0].metric
    width = max(len(found.label) for found in winners)
    lines = []
    for study, found in zip(studies, winners, strict=True):
        counts = ", ".join(f"{n} {what}" for what, n in study.outcome_counts().items() if n)
        line = f"study {found.label:<{width}}  {counts}"
        if found.tuned is not None and found.value is not None:
            described = study.plan.described(found.tuned)
            line += f"; best {metric} {found.value:.4f} at {described} (#{found.number})"
        lines.append(line)
        if len(search.objectives) > 1:
            lines += _front(search, study)
    return lines


def _front(search: Search, study: TuningStudy) -> list[str]:
    """The points that no other beats in every objective."""
    front = study.pareto_front()
    lines = [f"  Pareto front: {plural(len(front), 'point')}"]
    for trial in front[:MOST_OF_FRONT]:
        named = zip(search.objectives, trial.values, strict=True)
        told = ", ".join(f"{objective.metric} {value:.4g}" for objective, value in named)
        point = study.plan.described(study.plan.trial(study.values_of(trial)))
        lines.append(f"    #{trial.number} {point}: {told}")
    if len(front) > MOST_OF_FRONT:
        lines.append(f"    {len(front) - MOST_OF_FRONT} more in the study's figures")
    return lines


def listing(name: str, search: Search, found: Sequence[StudyPlan]) -> str:
    """What `--dry-run` prints: every study with its space, its default and its budget."""
    lines = [f"{name}: {budget(search)}", f"sampler {search.sampler}, pruner {search.pruner}"]
    for study in found:
        lines.append(f"study {study.label} [{study.key}]")
        lines += [f"  {dimension.field}: {dimension}" for dimension in study.dimensions]
        lines.append(f"  default: {study.described(study.default)}")
    seeds = ", ".join(map(str, search.seeds))
    lines.append(f"each point on seed {seeds}; winners and defaults on {search.retrain_seeds} more")
    return "\n".join(lines) + "\n"


def budget(search: Search) -> str:
    """ "20 trials a study", and what else ends one."""
    parts = []
    if search.trials is not None:
        parts.append(f"{search.trials} trials a study")
    if search.minutes is not None:
        parts.append(f"{search.minutes:g} minutes of training a study")
    if search.patience is not None:
        parts.append(f"or {search.patience} trials without a better one")
    return ", ".join(parts)
