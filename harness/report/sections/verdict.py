"""One sentence over all tasks: who beats whom and how surely; then who leads on each data set."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.across import Improvement
from harness.analysis.comparison import Comparison
from harness.analysis.headline import Headline, headline
from harness.analysis.tournament import MOST_CONTENDERS, Tournament, tournament
from harness.analysis.tuned import Tuned
from harness.analysis.verdict import Verdict, judge
from harness.core.errors import InputError
from harness.core.text import join_with_and, plural
from harness.report.blocks import Paragraph
from harness.report.intervals import probable
from harness.report.numbers import decimals_for, spread
from harness.report.rows import called
from harness.report.section import Section
from harness.report.uncertainty import why

CLAIM = "no claim of significance"


@dataclass(frozen=True, slots=True)
class Contender:
    """The best config of a group. name: the group's. settings: what else sets the config apart."""

    name: str
    settings: str
    config_id: str
    mean: float | None
    sd: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Within one task; see `analysis.verdict.Verdict`. sentence: for people."""

    task: str
    leaders: tuple[Contender, ...]
    runner_up: Contender | None
    seeds: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdicts:
    """sentence: over all tasks, from `headline`; None and empty where nothing competes.
    standings: one for each data set."""

    metric: str
    by: tuple[str, ...]
    compared_on: str
    headline: Headline | None
    sentence: str
    standings: tuple[Standing, ...]


def record(comparison: Comparison) -> Verdicts:
    judged = [
        judge(task, [group for group in comparison.contenders if group.best.task == task])
        for task in comparison.tasks
    ]
    standings = tuple(_standing(verdict, comparison) for verdict in judged)
    games = tournament(comparison)
    if games is None:
        _refuse_baseline(comparison)
        return Verdicts(comparison.score.metric, comparison.contend_by, "", None, "", standings)
    found = headline(games, comparison.generator("headline"), comparison.question.baseline)
    return Verdicts(
        metric=comparison.score.metric,
        by=comparison.contend_by,
        compared_on=games.metric,
        headline=found,
        sentence=_over_all(found, games),
        standings=standings,
    )


def blocks(verdicts: Verdicts) -> tuple[Paragraph, ...]:
    told = [Paragraph(standing.sentence, "claim") for standing in verdicts.standings]
    return (Paragraph(verdicts.sentence, "claim"), *told) if verdicts.sentence else tuple(told)


def _over_all(found: Headline, games: Tournament) -> str:
    """ "adamw beats sgd on 3 of 3 tasks, P(better) .94 [.81, .99], n = 5 (test/accuracy)." """
    told = [] if found.finding == "beats" else [f"Insufficient data: {why(found)}."]
    if found.improvement is not None:
        told.append(_numbers(found.improvement, games.metric, found.finding == "beats"))
    if found.improvement is not None and found.undecided:
        told.append(
            f"Not told apart from {found.improvement.first}: {join_with_and(found.undecided)}."
        )
    if found.left_out:
        told.append(f"Not finished by all: {plural(found.left_out, 'task')}.")
    return " ".join(told)


def _numbers(pair: Improvement, metric: str, beats: bool) -> str:
    tasks = plural(pair.tasks, "task")
    sure = f"P(better) {probable(pair.better, pair.interval)}, n = {pair.seeds} ({metric})"
    if pair.better == 0.5 and not pair.won:
        return f"{pair.first} and {pair.second} are level on {tasks}, {sure}."
    how = "beats" if beats else "is ahead of"
    return f"{pair.first} {how} {pair.second} on {pair.won} of {tasks}, {sure}."


def _refuse_baseline(comparison: Comparison) -> None:
    baseline = comparison.question.baseline
    if baseline is not None:
        raise InputError(
            f"--baseline {baseline!r}: {join_with_and(comparison.contend_by or ('nothing',))} does "
            f"not give 2 to {MOST_CONTENDERS} contenders; name others by --by"
        )


def _standing(verdict: Verdict, comparison: Comparison) -> Standing:
    leaders = tuple(_contender(group, comparison) for group in verdict.leaders)
    runner_up = _contender(verdict.runner_up, comparison) if verdict.runner_up else None
    sentence = _sentence(verdict, leaders, runner_up, comparison.score.metric)
    return Standing(
        task=verdict.task,
        leaders=leaders,
        runner_up=runner_up,
        seeds=verdict.seeds,
        sentence=f"{verdict.task}: {sentence}" if verdict.task else sentence,
    )


def _contender(group: Tuned, comparison: Comparison) -> Contender:
    best = group.best
    name = {field: best.labels[field] for field in comparison.contend_by}
    rest = [field for field in comparison.shown if field not in name]
    settings = called({field: best.labels[field] for field in rest})
    return Contender(called(name), settings, best.config_id, best.mean, best.sd, best.n)


def _sentence(
    verdict: Verdict, leaders: tuple[Contender, ...], runner_up: Contender | None, metric: str
) -> str:
    if not leaders:
        return f"Insufficient data: no trial has a {metric}."
    decimals = decimals_for(leader.mean for leader in leaders)
    first = leaders[0]
    value = f"{metric} {spread(first.mean, first.sd, decimals)} (n = {first.n})"
    at = f" at {first.settings}" if first.settings else ""
    if len(leaders) > 1:
        told = f"{join_with_and(_short([leader.name for leader in leaders]))} tie at {value}"
    elif not first.name:
        told = f"The only config reaches {value}"
    elif runner_up is None:
        told = f"{first.name} alone has results: {value}{at}"
    else:
        told = f"{first.name} leads with {value}{at}"
    if runner_up is not None:
        told += f"; next {runner_up.name}, {spread(runner_up.mean, runner_up.sd, decimals)}"
    return f"{told}. {_caution(verdict, alone=runner_up is None and len(leaders) == 1)}"


def _short(names: list[str], most: int = 4) -> list[str]:
    return names if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]


def _caution(verdict: Verdict, alone: bool) -> str:
    if verdict.seeds == 1:
        return "Insufficient data: 1 seed proves nothing."
    seeds = plural(verdict.seeds, "seed")
    if alone:
        return f"{seeds}, and nothing to compare it with."
    flat = "" if verdict.spread else ", which all gave the same value"
    return f"{seeds}{flat}: {CLAIM}."


SECTION = Section(name="verdict", title="", place=0, record=record, blocks=blocks, brief=True)
