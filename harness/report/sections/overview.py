"""What was compared: trials, how they ended, and what they are ranked on."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.devices import mixed_configs
from harness.core.text import plural
from harness.report.blocks import Paragraph
from harness.report.section import Section, points_of


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts of trials, by how they ended and by why they are left out, and the score (see
    `analysis.score.Score`). losses_differ: the score is a loss, and not the same one for all.
    mixed: configs whose trials ran on devices of more than one make."""

    experiment: str
    trials: int
    configs: int
    seeds: int
    outcomes: dict[str, int]
    missing: int
    unplanned: int
    filtered: int
    superseded: int
    tried: int
    metric: str
    epoch: str
    direction: str
    selected_on: str
    test: str | None
    saw_test: bool
    losses_differ: bool
    mixed: int


def record(comparison: Comparison) -> Overview:
    score = comparison.score
    losses = {config.labels.get("loss") for config in comparison.configs}
    return Overview(
        experiment=comparison.experiment,
        trials=len(comparison.trials),
        configs=len(comparison.configs),
        seeds=comparison.trials["seed"].nunique() if "seed" in comparison.trials else 0,
        outcomes=comparison.outcomes(),
        missing=comparison.missing,
        unplanned=comparison.unplanned,
        filtered=comparison.filtered,
        superseded=comparison.superseded,
        tried=points_of(comparison),
        metric=score.metric,
        epoch=score.epoch,
        direction=score.direction,
        selected_on=score.selected_on,
        test=score.test,
        saw_test=score.saw_test,
        losses_differ=score.metric.endswith("/loss") and len(losses) > 1,
        mixed=mixed_configs(comparison.trials),
    )


def blocks(overview: Overview) -> tuple[Paragraph, ...]:
    ended = ", ".join(f"{n} {outcome}" for outcome, n in overview.outcomes.items() if n)
    counts = (
        f"{plural(overview.trials, 'trial')} ({ended}) of {plural(overview.configs, 'config')}, "
        f"{plural(overview.seeds, 'seed')}."
    )
    told = [Paragraph(" ".join((counts, *_left_out(overview)))), Paragraph(_ranked_on(overview))]
    if overview.saw_test:
        told.append(
            Paragraph(
                f"Selected on the test split ({overview.metric} at the {overview.epoch} epoch): "
                "these figures are no estimate of new data, and the best of them are too good.",
                "caution",
            )
        )
    if overview.losses_differ:
        told.append(
            Paragraph(
                f"Configs differ in their loss: values of {overview.metric} are not of one kind.",
                "caution",
            )
        )
    if overview.mixed:
        told.append(
            Paragraph(
                f"{plural(overview.mixed, 'config')} with trials on different devices (`device: "
                "auto` takes what there is): their seconds do not compare, and their spread over "
                "seeds is in part the devices'.",
                "caution",
            )
        )
    return tuple(told)


def _left_out(overview: Overview) -> list[str]:
    told = []
    if overview.tried:
        points = plural(overview.tried, "point")
        told.append(f"Beside them, and not ranked: {points} that the search chose by.")
    if overview.missing:
        told.append(f"{plural(overview.missing, 'trial')} of the file not run yet.")
    if overview.unplanned:
        n = plural(overview.unplanned, "trial")
        told.append(f"Left out: {n} in the store that the file no longer asks for.")
    if overview.filtered:
        told.append(f"Left out by --where: {plural(overview.filtered, 'trial')}.")
    if overview.superseded:
        told.append(f"Left out: {plural(overview.superseded, 'run')} replaced by a later run.")
    return told


def _ranked_on(overview: Overview) -> str:
    better = "higher" if overview.direction == "max" else "lower"
    if overview.epoch == "best":
        when = f"at each trial's best epoch by {overview.selected_on}"
        same = "that same epoch"
    else:
        when = same = "the last epoch"
        when = f"after {when}"
    test = f"; {overview.test} is of {same}" if overview.test else ""
    elsewhere = overview.metric != overview.selected_on
    selected = f" The experiment selects on {overview.selected_on}." if elsewhere else ""
    return f"Ranked on {overview.metric} ({better} is better) {when}{test}.{selected}"


SECTION = Section(name="overview", title="", place=10, record=record, blocks=blocks, brief=True)
