"""What a search reports of its studies: lines for the terminal, and figures.

The comparison of tuned trials and defaults is made by `harness.report`.
"""

from __future__ import annotations

import html
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from harness.core.paths import data_root
from harness.core.text import format_score, plural
from harness.experiment.experiment import Search
from harness.tuning.search_loop import StackLimit
from harness.tuning.study import TuningStudy
from harness.tuning.study_plan import StudyPlan

MAX_FRONT_LINES = 10
"""How many points of a Pareto front are printed."""
PAGE = "study.html"
DOTS_PER_INCH = 110

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: system-ui, sans-serif; margin: 2rem; }}</style></head>
<body><h1>{title}</h1><p>{note}</p>
"""
_logger = logging.getLogger(__name__)


def listing(name: str, search: Search, studies: Sequence[StudyPlan]) -> str:
    """Returns what `--dry-run` prints: each study with its space and default, and the budget."""
    lines = [f"{name}: {_budget(search)}", f"sampler {search.sampler}, pruner {search.pruner}"]
    for study in studies:
        lines.append(f"study {study.label} [{study.key}]")
        lines += [f"  {dimension.field}: {dimension}" for dimension in study.dimensions]
        default = "none: its values are not given" if search.only_searched else "left out by a rule"
        lines.append(f"  default: {study.describe(study.default) if study.default else default}")
    seeds = ", ".join(map(str, search.seeds))
    lines.append(
        f"each point trains with seed {seeds}; winners and defaults train again with "
        f"{plural(search.retrain_seeds, 'fresh seed')}"
    )
    return "\n".join(lines) + "\n"


def announcement(
    name: str, search: Search, studies: Sequence[TuningStudy], lost: int, storage: str
) -> list[str]:
    """Returns the lines that announce the search. lost: number of points of dead processes that
    were queued again."""
    n_studies = plural(len(studies), "study", "studies")
    labels = ", ".join(study.plan.label for study in studies)
    methods = f"sampler {search.sampler}, pruner {search.pruner}"
    lines = [
        f"{name}: {n_studies} ({labels}), {_budget(search)}; {methods}",
        f"the studies are stored in {storage}",
    ]
    earlier = [study for study in studies if study.begun_earlier]
    if earlier:
        lines.append(
            f"{plural(len(earlier), 'study', 'studies')} of an earlier version: "
            f"continuing with sampler {earlier[0].search.sampler}"
        )
    asked = sum(study.n_asked() for study in studies)
    if asked:
        remaining = [study.remaining() for study in studies]
        known = [number for number in remaining if number is not None]
        rest = f"; {sum(known)} to go" if len(known) == len(remaining) else ""
        lines.append(f"continuing: {plural(asked, 'point')} asked for before{rest}")
    if lost:
        lines.append(
            f"{plural(lost, 'point')} lost when their process ended; they will be tried again"
        )
    return lines


def describe_stacking(limit: StackLimit, studies: Sequence[StudyPlan]) -> list[str]:
    """Says how large stacks may be, and which studies train one trial at a time."""
    if limit.size == 1:
        return []
    from harness.training.stacked.compatibility import stacking_refusal

    lines = [f"stacks of at most {plural(limit.size, 'trial')}"]
    for study in studies:
        reason = stacking_refusal(study.base.trial, data_root())
        if reason is not None:
            lines.append(f"one by one: study {study.label}: {reason}")
    return lines


def _budget(search: Search) -> str:
    """Returns "20 trials per study", and what else ends one."""
    parts = []
    if search.trials is not None:
        parts.append(f"{search.trials} trials per study")
    if search.minutes is not None:
        parts.append(f"{search.minutes:g} minutes of training per study")
    if search.patience is not None:
        parts.append(f"or {search.patience} trials without a better one")
    return ", ".join(parts)


def outcome_lines(search: Search, studies: Sequence[TuningStudy]) -> list[str]:
    """Returns the lines that report the best point of each study."""
    metric = search.objectives[0].metric
    width = max(len(study.plan.label) for study in studies)
    lines = []
    for study in studies:
        line = f"study {study.plan.label:<{width}}  {_counts(study)}"
        best = study.best()
        if best is not None:
            described = study.plan.describe(study.trial_of(best))
            value = format_score(best.values[0])
            line += f"; best {metric} {value} at {described} (#{best.number})"
        elif study.n_asked():
            line += f"; no point has a value of {metric}, so that there is no winner"
        if barred := study.n_barred():
            line += f"; {plural(barred, 'point')} cannot win, as a skip rule was added after it"
        if why := study.exhausted():
            line += f"; ended early: {why}"
        lines.append(line)
        if len(search.objectives) > 1:
            lines += _front_lines(search, study)
    return lines


def _counts(study: TuningStudy) -> str:
    counts = {**study.outcome_counts(), "left out": study.n_left_out()}
    return ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n) or "no points"


def _front_lines(search: Search, study: TuningStudy) -> list[str]:
    front = study.pareto_front()
    lines = [f"  Pareto front: {plural(len(front), 'point')}"]
    for optuna_trial in front[:MAX_FRONT_LINES]:
        pairs = zip(search.objectives, optuna_trial.values, strict=True)
        values = ", ".join(f"{objective.metric} {value:.4g}" for objective, value in pairs)
        point = study.plan.describe(study.trial_of(optuna_trial))
        lines.append(f"    #{optuna_trial.number} {point}: {values}")
    if len(front) > MAX_FRONT_LINES:
        lines.append(f"    {len(front) - MAX_FRONT_LINES} more in the study's figures")
    return lines


def write_figures(study: TuningStudy, folder: Path) -> list[str]:
    """Writes a study's figures: one interactive page that needs no network, and each as PNG.

    They are history, importance, parallel coordinates, slices and contours, and a Pareto front
    where there are several objectives. One page holds all of them, so that plotly's 4 MB are stored
    once. Returns the names of the figures that could not be drawn.
    """
    from plotly.offline import get_plotlyjs

    folder.mkdir(parents=True, exist_ok=True)
    parts: list[str] = []
    failed: list[str] = []
    with _quiet_optuna():
        for name, options in _figures(study):
            with _attempt(name, failed):
                plot = getattr(optuna.visualization, f"plot_{name}")
                figure = plot(study.optuna_study, **options)
                parts.append(figure.to_html(full_html=False, include_plotlyjs=False))
            with _attempt(name, failed):
                _write_png(study, name, options, folder)
    title = html.escape(study.optuna_study.study_name)
    note = f"{_counts(study)}; sampler {study.search.sampler}, pruner {study.search.pruner}"
    page = _HEAD.format(title=title, note=html.escape(note))
    page += f"<script>{get_plotlyjs()}</script>\n" + "\n".join(parts) + "\n</body></html>\n"
    (folder / PAGE).write_text(page, encoding="utf-8")
    return failed


def _figures(study: TuningStudy) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each figure of Optuna that would show something, with its arguments."""
    complete = study.optuna_study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return
    metrics = [objective.metric for objective in study.search.objectives]
    target: dict[str, Any] = {"target_name": metrics[0]}
    if len(metrics) > 1:
        target["target"] = lambda trial: trial.values[0]
    if 1 < len(metrics) <= 3:
        yield "pareto_front", {"target_names": metrics}
    yield "optimization_history", target
    params = {name for trial in complete for name in trial.params}
    if len(complete) > 1 and len(params) > 1:
        yield "param_importances", target
    yield "parallel_coordinate", target
    yield "slice", target
    if len(params) > 1:
        yield "contour", target


def _write_png(study: TuningStudy, name: str, options: dict[str, Any], folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    try:
        plot = getattr(optuna.visualization.matplotlib, f"plot_{name}")
        axes = plot(study.optuna_study, **options)
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    finally:
        plt.close("all")


@contextmanager
def _attempt(name: str, failed: list[str]) -> Iterator[None]:
    """Notes a figure that cannot be drawn, which costs no result."""
    try:
        yield
    except Exception:  # plotly and matplotlib raise exceptions of many kinds
        _logger.debug("no %s", name, exc_info=True)
        if name not in failed:
            failed.append(name)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Hides Optuna's notes on what a figure leaves out, which are for its developers."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
