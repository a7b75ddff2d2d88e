"""A study's figures: one interactive page that needs no network, and each figure as PNG."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from harness.tuning.study import TuningStudy

PAGE = "study.html"
DOTS_PER_INCH = 110
_logger = logging.getLogger(__name__)

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: system-ui, sans-serif; margin: 2rem; }}</style></head>
<body><h1>{title}</h1><p>{note}</p>
"""


def write_figures(study: TuningStudy, folder: Path) -> list[str]:
    """History, importance, parallel coordinates, slices and contours; a Pareto front where there
    are several objectives. Returns the names of those that could not be drawn.

    One page holds all of them, so that plotly's 4 MB are stored once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(_wanted(study))
    missing: list[str] = []
    with optuna_quiet():
        _write_page(study, wanted, folder, missing)
        for name, options in wanted:
            _attempt(name, missing, partial(_draw, study, name, options, folder))
    return missing


def _wanted(study: TuningStudy) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each figure of Optuna with its arguments, where it would show something."""
    complete = study.optuna_study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return
    first = study.objectives[0].metric
    several = len(study.objectives) > 1
    target: dict[str, Any] = (
        {"target": lambda trial: trial.values[0], "target_name": first}
        if several
        else {"target_name": first}
    )
    if several:
        names = [objective.metric for objective in study.objectives]
        if len(names) <= 3:
            yield "pareto_front", {"target_names": names}
    yield "optimization_history", target
    drawn = {name for trial in complete for name in trial.params}
    if len(complete) > 1 and len(drawn) > 1:
        yield "param_importances", target
    yield "parallel_coordinate", target
    yield "slice", target
    if len(drawn) > 1:
        yield "contour", target


def _write_page(
    study: TuningStudy, wanted: list[tuple[str, dict[str, Any]]], folder: Path, missing: list[str]
) -> None:
    from plotly.offline import get_plotlyjs

    parts: list[str] = []
    for name, options in wanted:
        _attempt(name, missing, partial(_add_interactive, study, name, options, parts))
    title = html.escape(study.optuna_study.study_name)
    counts = ", ".join(f"{n} {what}" for what, n in study.outcome_counts().items() if n)
    note = f"{counts}; sampler {study.search.sampler}, pruner {study.search.pruner}"
    page = _HEAD.format(title=title, note=html.escape(note))
    page += f"<script>{get_plotlyjs()}</script>\n" + "\n".join(parts) + "\n</body></html>\n"
    (folder / PAGE).write_text(page, encoding="utf-8")


def _add_interactive(
    study: TuningStudy, name: str, options: dict[str, Any], parts: list[str]
) -> None:
    figure = getattr(optuna.visualization, f"plot_{name}")(study.optuna_study, **options)
    parts.append(figure.to_html(full_html=False, include_plotlyjs=False))


def _draw(study: TuningStudy, name: str, options: dict[str, Any], folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    try:
        axes = getattr(optuna.visualization.matplotlib, f"plot_{name}")(
            study.optuna_study, **options
        )
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    finally:
        plt.close("all")


def _attempt(name: str, missing: list[str], action: Callable[[], None]) -> None:
    """A figure that cannot be drawn costs no result."""
    try:
        action()
    except Exception:  # whatever plotly and matplotlib raise
        _logger.debug("no %s", name, exc_info=True)
        if name not in missing:
            missing.append(name)


class optuna_quiet:  # noqa: N801 - used as a function
    """Optuna's notes on what a figure leaves out are for its developers."""

    def __enter__(self) -> None:
        import warnings

        self._before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error: object) -> None:
        optuna.logging.set_verbosity(self._before)
        self._warnings.__exit__(None, None, None)
