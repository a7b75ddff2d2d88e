"""Why a claim is not made, with the numbers."""

from __future__ import annotations

from harness.analysis.across import ALPHA
from harness.analysis.deciding_test import Evidence
from harness.analysis.headline import FEWEST_SEEDS, Headline
from harness.core.text import plural
from harness.report.intervals import p_value, probability


def why(found: Headline) -> str:
    """Which part of the rule does not hold, for a sentence after "insufficient data"."""
    pair = found.improvement
    if found.doubt == "no task":
        return "no task was finished by every contender"
    if pair is None:
        return "the best two have fewer than two seeds in common on every task"
    if found.doubt == "few seeds" or found.evidence is None:
        seeds = plural(pair.seeds, "seed")
        return f"{seeds} in common, and {FEWEST_SEEDS} are the fewest for a claim"
    if found.doubt == "interval":
        return f"the interval of P(better) reaches down to {probability(pair.interval.low)}"
    return _undecided(found.evidence, pair.first, pair.second)


def _undecided(shown: Evidence, first: str, second: str) -> str:
    if not shown.differ:
        p = p_value(shown.friedman)
        return f"Friedman's test over tasks finds no difference among contenders (p = {p})"
    if shown.apart is not None and shown.needed is not None:
        tasks = plural(shown.blocks, "task")
        return (
            f"the average ranks of {first} and {second} lie {shown.apart:.2f} apart over {tasks}, "
            f"and more than {shown.needed:.2f} are needed (Nemenyi)"
        )
    blocks = plural(shown.blocks, "task" if shown.test == "Wilcoxon over tasks" else "seed")
    if shown.p is None or shown.floor is None:
        return f"{first} and {second} tie on {blocks}"
    adjusted = f" after Holm over {shown.compared} pairs" if shown.compared > 1 else ""
    told = f"Wilcoxon's p = {p_value(shown.p)} over {blocks}{adjusted}"
    lowest = min(1.0, shown.floor * shown.compared)
    if lowest < ALPHA:
        return told
    if lowest == shown.p:
        return f"{told}, the lowest that so few allow"
    return f"{told}; so few that differ allow none below {p_value(lowest)}"
