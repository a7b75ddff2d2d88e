"""How the numbers are computed, with references."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.report.blocks import Block, Paragraph, ReportTable, columns
from harness.report.section import Section

METHODS = {
    "selection": (
        "Each contender's config is chosen on the validation score, and those that diverge least "
        "come first. What is compared is the test score at the same epoch, if it was measured. The "
        "seeds that are compared are those that chose: for a final claim, retrain on fresh seeds."
    ),
    "intervals": "95%, bias-corrected and accelerated bootstrap over seeds (Efron, 1987).",
    "pairs": (
        "Trials are paired by seed: same initial weights, split and order. Wilcoxon's signed-rank "
        "test (1945), exact with ties; Holm's adjustment (1979) over the pairs of a task."
    ),
    "ties": (
        "Values, means and differences are equal if they differ by rounding alone, relative to "
        "their size. Ranks, tests, P(better) and intervals read them so."
    ),
    "probability of improvement": (
        "Mann–Whitney's U over all combinations of seeds, averaged over tasks (Agarwal et al., "
        "2021); percentile interval by a bootstrap that resamples tasks, and seeds within each."
    ),
    "claim": (
        "A beats B if all of this holds. They have at least five seeds in common on every task. If "
        "there are three or more contenders, Friedman's test over tasks finds that they differ. A "
        "test separates the two at .05. The interval of P(better) lies above one half. If A is "
        "ahead on every task, seeds decide: Wilcoxon's test over all pairs, ranked within each "
        "task, with Holm's adjustment over pairs of contenders. If A is ahead on some tasks only, "
        "tasks decide: Nemenyi's critical difference or, for two contenders, Wilcoxon's test over "
        "the tasks' P(better) (Demšar, 2006). Otherwise the data are insufficient, and the "
        "sentence says which part does not hold."
    ),
    "over tasks": (
        "Interquartile mean (Agarwal et al., 2021); Friedman's test (1937) with tasks as blocks; "
        "Nemenyi's critical difference (Demšar, 2006)."
    ),
    "time to target": (
        "Performance profiles (Dolan and Moré, 2002); the AlgoPerf score, the profile's integral "
        "from 1 to 4 over 3 (Dahl et al., 2023). A miss is infinite. Seconds only if each trial "
        "had its device to itself."
    ),
    "learning-rate sensitivity": (
        "Loss of gain over the grid, with scores clipped at the untrained net's (after Wortsman et "
        "al., 2023). A good rate keeps 95% of the gain."
    ),
    "budget": (
        "Expected maximum of k configs (Dodge et al., 2019) by the unbiased estimator without "
        "replacement (Tang et al., 2020)."
    ),
    "importance": (
        "Total effects (Sobol; Jansen, 1999) on a random forest, after fANOVA (Hutter et al., "
        "2014)."
    ),
    "divergence": (
        "A trial whose loss was no longer finite counts as worse than any value wherever only the "
        "order matters, and has no value elsewhere. Nothing is imputed."
    ),
}


OF_OTHERS = {
    "source": (
        "Another program trained these runs. What it called the contender, the task, the seed and "
        "the metric is taken as it is."
    ),
    "selection": (
        "Each contender's config is chosen on the metric that was named, and those that diverge "
        "least come first. If it is of the validation split (val/…, val_…), the metric of the test "
        "split is compared. The seeds that are compared are those that chose."
    ),
    "pairs": (
        "Trials are paired by seed, on the word of the program that made them. Wilcoxon's "
        "signed-rank test (1945), exact with ties; Holm's adjustment (1979) over the pairs of a "
        "task."
    ),
    "divergence": (
        "A trial whose score is NaN or infinite counts as worse than any value wherever only the "
        "order matters, and has no value elsewhere. A score that is missing counts as failed. "
        "Nothing is imputed."
    ),
}
"""What differs for results that another program made."""


@dataclass(frozen=True, slots=True)
class Methods:
    notes: tuple[tuple[str, str], ...]


def record(comparison: Comparison) -> Methods:
    notes = METHODS if comparison.external is None else METHODS | OF_OTHERS
    return Methods(tuple(notes.items()))


def blocks(methods: Methods) -> tuple[Block, ...]:
    table = ReportTable(columns("figure", "method"), methods.notes)
    return (Paragraph("How each figure is computed:"), table)


SECTION = Section("methods", "Methods", record, blocks, order=140)
