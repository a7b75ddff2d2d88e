"""The verdict: who beats whom over all tasks and how surely; then who leads on each data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.comparison import UNSEEDED, Comparison
from harness.analysis.configs import settings_of
from harness.analysis.contenders import Improvement
from harness.analysis.headline import FEWEST_SEEDS, Evidence, Headline, headline
from harness.analysis.ranking import ConfigGroup
from harness.analysis.statistics import ALPHA
from harness.analysis.tournament import MOST_CONTENDERS, make_tournament
from harness.analysis.two_leaders import Reason, TwoLeaders, two_leaders
from harness.core.errors import InputError
from harness.core.text import join_with_and, plural
from harness.report.blocks import Paragraph
from harness.report.formatting import decimals_for, describe, p_value, probability, spread
from harness.report.section import Section

UNPAIRED = f"Insufficient data: {UNSEEDED}."
MOST_NAMES = 4
"""Most contenders that a sentence about a tie names."""


@dataclass(frozen=True, slots=True)
class Leader:
    """A contender's best config. name: the contender's. settings: the config's other fields."""

    name: str
    settings: str
    config_id: str
    mean: float | None
    sd: float | None
    n: int


@dataclass(frozen=True, slots=True)
class TaskStanding:
    """Who leads within one task.

    leaders: the best contender and those that tie with it; empty if nothing has a value.
    runner_up: the best contender behind them.
    seeds: the fewest seeds that one of those named has. sentence: for people.
    """

    task: str
    leaders: tuple[Leader, ...]
    runner_up: Leader | None
    seeds: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdicts:
    """headline, sentence: over all tasks; None and empty if nothing competes.
    standings: one for each data set.
    differing: data sets on which others lead, and why; `reason` says it in a sentence."""

    metric: str
    by: tuple[str, ...]
    compared_on: str
    headline: Headline | None
    sentence: str
    standings: tuple[TaskStanding, ...]
    differing: tuple[TwoLeaders, ...]
    reason: str


def record(comparison: Comparison) -> Verdicts:
    standings = tuple(_standing(task, comparison) for task in comparison.tasks)
    tournament, baseline = make_tournament(comparison), comparison.question.baseline
    differing: tuple[TwoLeaders, ...] = ()
    if tournament is not None:
        over_all = headline(tournament, comparison.generator("headline"), baseline)
        compared_on = tournament.metric
        sentence = UNPAIRED if comparison.unseeded else _over_all_tasks(over_all, compared_on)
        if over_all.improvement is not None and _is_ahead(over_all.improvement):
            differing = two_leaders(comparison, tournament, over_all.improvement.first)
    elif baseline is None:
        over_all, sentence, compared_on = None, "", ""
    else:
        fields = join_with_and(comparison.contend_by or ("nothing",))
        raise InputError(
            f"--baseline {baseline!r}: {fields} does not give 2 to {MOST_CONTENDERS} contenders; "
            "choose others with --by"
        )
    metric, by = comparison.score.metric, comparison.contend_by
    reason = _reason_for_two(differing, metric, compared_on)
    return Verdicts(metric, by, compared_on, over_all, sentence, standings, differing, reason)


def blocks(verdicts: Verdicts) -> tuple[Paragraph, ...]:
    standings = [standing.sentence for standing in verdicts.standings]
    sentences = [verdicts.sentence, *standings, verdicts.reason]
    return tuple(Paragraph(sentence, "claim") for sentence in sentences if sentence)


def _over_all_tasks(over_all: Headline, metric: str) -> str:
    """ "adamw beats sgd on 3 of 3 tasks, P(better) .94 [.81, .99], n = 5 (test/accuracy)." """
    beats, pair = over_all.finding == "beats", over_all.improvement
    sentences = [] if beats else [f"Insufficient data: {_reason(over_all)}."]
    if pair is not None:
        better = f"P(better) {probability(pair.better, pair.interval)}, n = {pair.seeds} ({metric})"
        sentences.append(f"{_found(pair, beats)} {plural(pair.tasks, 'task')}, {better}.")
        if over_all.undecided:
            undecided = " or ".join(over_all.undecided)
            sentences.append(f"{pair.first} is not shown to beat {undecided}.")
    if over_all.left_out:
        left_out = plural(over_all.left_out, "task")
        sentences.append(f"{left_out} left out: not every contender finished.")
    return " ".join(sentences)


def _is_ahead(pair: Improvement) -> bool:
    return pair.better > 0.5 and pair.won > 0


def _found(pair: Improvement, beats: bool) -> str:
    """ "adam is ahead of sgd on 2 of". Nobody is ahead who wins no more than half of the seeds."""
    if beats or _is_ahead(pair):
        return f"{pair.first} {'beats' if beats else 'is ahead of'} {pair.second} on {pair.won} of"
    if pair.better == 0.5 and not pair.won:
        return f"{pair.first} and {pair.second} are level on"
    return (
        f"Neither {pair.first} nor {pair.second} is ahead: {pair.first} has the better mean on "
        f"{pair.won} of"
    )


def _reason_for_two(differing: Sequence[TwoLeaders], metric: str, compared_on: str) -> str:
    """Says why the verdict names two contenders, one sentence for each reason."""
    tasks: dict[tuple[str, str, Reason], list[str]] = {}
    for two in differing:
        tasks.setdefault((two.leader, two.ahead, two.reason), []).append(two.task)
    sentences = []
    for (leader, ahead, reason), names in tasks.items():
        on = f" on {join_with_and(names)}" if all(names) else ""
        sentences.append(
            {
                "absent": f"{leader} leads{on}, where {ahead} has no score.",
                "split": f"{leader} leads{on} by {metric}, which chose the configs, and {ahead} by "
                f"{compared_on}, which chose nothing and therefore decides.",
                "divergence": f"{leader} leads{on}, although {ahead} is ahead where both finished, "
                "because fewer of its trials diverged.",
                "tasks": f"{leader} leads{on} because the best config there is its own, and "
                f"{ahead} is ahead because it is better over all tasks.",
                "seeds": f"{leader} leads{on} by the mean of all its seeds, and {ahead} is ahead "
                "on the seeds that both have.",
            }[reason]
        )
    return " ".join(sentences)


def _reason(over_all: Headline) -> str:
    """Says which part of the rule for a claim does not hold."""
    pair, test = over_all.improvement, over_all.evidence
    if over_all.doubt == "no task":
        return "no task was finished by every contender"
    if pair is None:
        return "the best two have fewer than two seeds in common on every task"
    if over_all.doubt == "few seeds" or test is None:
        return f"{plural(pair.seeds, 'seed')} in common, and a claim needs at least {FEWEST_SEEDS}"
    if over_all.doubt == "interval":
        return f"the interval of P(better) reaches down to {probability(pair.interval.low)}"
    if not test.differ:
        p = p_value(test.friedman)
        return f"Friedman's test over tasks finds no difference among contenders (p = {p})"
    if test.apart is not None and test.needed is not None:
        return (
            f"the average ranks of {pair.first} and {pair.second} lie {test.apart:.2f} apart over "
            f"{plural(test.blocks, 'task')}, and more than {test.needed:.2f} are needed (Nemenyi)"
        )
    return _wilcoxon(test, pair)


def _wilcoxon(test: Evidence, pair: Improvement) -> str:
    blocks = plural(test.blocks, "task" if test.test == "Wilcoxon over tasks" else "seed")
    if test.p is None or test.floor is None:
        return f"{pair.first} and {pair.second} tie on {blocks}"
    adjusted = f" after Holm's adjustment over {test.compared} pairs" if test.compared > 1 else ""
    result = f"Wilcoxon's p = {p_value(test.p)} over {blocks}{adjusted}"
    lowest = min(1.0, test.floor * test.compared)
    if lowest < ALPHA:
        return result
    if lowest == test.p:
        return f"{result}, the lowest p that so few allow"
    return f"{result}; so few that differ allow no p below {p_value(lowest)}"


def _standing(task: str, comparison: Comparison) -> TaskStanding:
    of_task = [group for group in comparison.contenders if group.best.task == task]
    valued = [group for group in of_task if group.best.mean is not None]
    ahead = [group for group in valued if group.best.rank == valued[0].best.rank]
    behind = valued[len(ahead) :][:1]
    leaders = tuple(_leader(group, comparison) for group in ahead)
    runner_up = _leader(behind[0], comparison) if behind else None
    named = [group.best for group in (*ahead, *behind)]
    seeds = min((config.n for config in named), default=0)
    sentence = f"Insufficient data: no trial has {comparison.score.metric}."
    if leaders:
        same = not any(config.sd for config in named)
        noun = "trial" if comparison.unseeded else "seed"
        caution = _caution(seeds, same, len(named) == 1, noun)
        sentence = f"{_lead(leaders, runner_up, comparison.score.metric)}. {caution}"
    sentence = f"{task}: {sentence}" if task else sentence
    return TaskStanding(task, leaders, runner_up, seeds, sentence)


def _leader(group: ConfigGroup, comparison: Comparison) -> Leader:
    best = group.best
    name = {field: best.labels[field] for field in comparison.contend_by}
    settings = settings_of(best.labels, comparison.shown, comparison.contend_by)
    return Leader(describe(name), describe(settings), best.config_id, best.mean, best.sd, best.n)


def _lead(leaders: tuple[Leader, ...], runner_up: Leader | None, metric: str) -> str:
    """ "adam leads with val/accuracy 0.9803 ± 0.0015 (n = 3) at lr 0.01; next sgd, 0.9703 ± …" """
    first = leaders[0]
    decimals = decimals_for([first.mean])
    value = f"{metric} {spread(first.mean, first.sd, decimals)} (n = {first.n})"
    settings = f" at {first.settings}" if first.settings else ""
    if len(leaders) > 1:
        names = [leader.name for leader in leaders]
        if len(names) > MOST_NAMES:
            names[MOST_NAMES - 1 :] = [f"{len(names) - MOST_NAMES + 1} more"]
        sentence = f"{join_with_and(names)} tie at {value}"
    elif not first.name:
        sentence = f"The only config reaches {value}"
    elif runner_up is None:
        sentence = f"{first.name} alone has results: {value}{settings}"
    else:
        sentence = f"{first.name} leads with {value}{settings}"
    if runner_up is not None:
        sentence += f"; next {runner_up.name}, {spread(runner_up.mean, runner_up.sd, decimals)}"
    return sentence


def _caution(seeds: int, same: bool, alone: bool, noun: str) -> str:
    if seeds == 1:
        return f"Insufficient data: 1 {noun} proves nothing."
    if alone:
        return f"{plural(seeds, noun)}, and nothing to compare it with."
    flat = ", which all gave the same value" if same else ""
    return f"{plural(seeds, noun)}{flat}: no claim of significance."


SECTION = Section("verdict", "", record, blocks, order=0, brief=True)
