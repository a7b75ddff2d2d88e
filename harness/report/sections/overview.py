"""What was compared: trials, how they ended, and what they are ranked on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from harness.analysis.comparison import Comparison
from harness.analysis.cost import mixed_configs
from harness.analysis.external import cautions
from harness.analysis.versions import UNKNOWN, Version
from harness.core.text import plural
from harness.report.blocks import Paragraph
from harness.report.section import Section, points_tried


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts of trials, by how they ended and by why they are left out, and the score (see
    `analysis.ranking.Score`).

    losses_differ: whether the score is a loss, and configs have different losses.
    mixed: configs whose trials ran on devices of more than one model.
    versions: of data sets and weights that the store has in several versions.
    step: what the trials' values belong to: "epoch" or, of another program's results, "step".
    cautions: about results that another program made.
    """

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
    versions: tuple[Version, ...]
    step: str
    cautions: tuple[str, ...]


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
        tried=points_tried(comparison),
        metric=score.metric,
        epoch=score.epoch,
        direction=score.direction,
        selected_on=score.selected_on,
        test=score.test,
        saw_test=score.saw_test,
        losses_differ=score.metric.endswith("/loss") and len(losses) > 1,
        mixed=mixed_configs(comparison.trials),
        versions=comparison.versions,
        step=comparison.step,
        cautions=cautions(comparison),
    )


def blocks(overview: Overview) -> tuple[Paragraph, ...]:
    ended = ", ".join(f"{n} {outcome}" for outcome, n in overview.outcomes.items() if n)
    counts = (
        f"{plural(overview.trials, 'trial')} ({ended}) of {plural(overview.configs, 'config')}, "
        f"{plural(overview.seeds, 'seed') if overview.seeds else 'seeds not known'}."
    )
    warnings = [*overview.cautions, *_versions(overview.versions)]
    if overview.saw_test:
        when = "" if overview.epoch == "given" else f" at the {overview.epoch} {overview.step}"
        warnings.append(
            f"Selected on the test split ({overview.metric}{when}): these "
            "figures do not estimate performance on new data, and the best of them are too good."
        )
    if overview.losses_differ:
        warnings.append(
            f"Configs have different losses: their values of {overview.metric} cannot be compared."
        )
    if overview.mixed:
        warnings.append(
            f"{plural(overview.mixed, 'config')} with trials on different devices (`device: auto` "
            "takes what is available): their seconds cannot be compared, and part of their spread "
            "over seeds comes from the devices."
        )
    return (
        Paragraph(" ".join((counts, *_left_out(overview)))),
        Paragraph(_ranked_on(overview)),
        *(Paragraph(text, "caution") for text in warnings),
    )


def _versions(versions: Sequence[Version]) -> Iterator[str]:
    """Names the versions of each data set, each model's weights and each component's code, and
    which is current."""
    for (what, name), of in groupby(versions, key=lambda version: (version.of, version.name)):
        several = list(of)
        listed = ", ".join(
            f"{version.version} ({plural(version.trials, 'trial')}"
            f"{', current' if version.current else ''})"
            for version in several
        )
        text = f"The {what} of {name} changed: {listed}."
        if len(several) > 1:
            text += (
                " Runs of different versions are never averaged."
                if what == "code"
                else " Different versions are different tasks."
            )
        if not any(version.current for version in several):
            text += " None is what the file names now."
        if any(version.version == UNKNOWN for version in several):
            text += f" For {UNKNOWN}, the store does not say which {what} it was."
        yield text


def _left_out(overview: Overview) -> list[str]:
    points, trials = plural(overview.tried, "point"), plural(overview.unplanned, "trial")
    sentences = {
        f"Not ranked: the {points} that the search chose its winners from.": overview.tried,
        f"{plural(overview.missing, 'trial')} of the file not run yet.": overview.missing,
        f"Left out: {trials} in the store that the file no longer asks for.": overview.unplanned,
        f"Left out by --where: {plural(overview.filtered, 'trial')}.": overview.filtered,
        f"Left out: {plural(overview.superseded, 'run')} replaced by a later run.": (
            overview.superseded
        ),
    }
    return [sentence for sentence, count in sentences.items() if count]


def _ranked_on(overview: Overview) -> str:
    better = "higher" if overview.direction == "max" else "lower"
    by, step = overview.selected_on, overview.step
    when, same = {
        "given": (", the value that each trial has", "the same trial"),
        "best": (f" at each trial's best {step} by {by}", f"that same {step}"),
        "final": (f" after the last {step}", f"the last {step}"),
    }[overview.epoch]
    test = f"; {overview.test} is of {same}" if overview.test else ""
    differs = overview.metric != overview.selected_on
    selected = f" The experiment selects on {overview.selected_on}." if differs else ""
    return f"Ranked on {overview.metric} ({better} is better){when}{test}.{selected}"


SECTION = Section("overview", "", record, blocks, order=10, brief=True)
