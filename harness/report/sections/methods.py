"""How the figures are made, and who says so."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.section import Section

METHODS = (
    (
        "selection",
        (
            "Each contender's config is chosen on the validation score, those that diverge "
            "least first; what is compared is the test score at the same epoch, where there "
            "is one. The seeds that chose are those that are compared: for a final claim, "
            "retrain on fresh ones."
        ),
    ),
    (
        "intervals",
        ("95%, bias-corrected and accelerated bootstrap over seeds (Efron, 1987)."),
    ),
    (
        "pairs",
        (
            "Seeds are paired: same initial weights, split and order. Wilcoxon's signed-rank "
            "test (1945), exact with ties; Holm's adjustment (1979) over the pairs of "
            "a task."
        ),
    ),
    (
        "probability of improvement",
        (
            "Mann–Whitney's U over all combinations of seeds, averaged over tasks (Agarwal et "
            "al., 2021); interval by a bootstrap that draws tasks anew and seeds within each, "
            "percentiles."
        ),
    ),
    (
        "claim",
        (
            "A beats B where they have five seeds or more in common on every task; where "
            "Friedman's test over tasks finds that contenders differ, if there are three or "
            "more; where the two are told apart at .05; and where the interval of P(better) "
            "lies above one half. Ahead on every task, they are told apart by their seeds: "
            "Wilcoxon's test over all pairs, ranked within each task, Holm's adjustment over "
            "pairs of contenders. Ahead on some only, by tasks: Nemenyi's critical difference "
            "or, of two contenders, Wilcoxon's test over the tasks' P(better) (Demšar, 2006). "
            "Else the data are insufficient, and the sentence says what does not hold."
        ),
    ),
    (
        "over tasks",
        (
            "Interquartile mean (Agarwal et al., 2021); Friedman's test (1937) with tasks "
            "as blocks; Nemenyi's critical difference (Demšar, 2006)."
        ),
    ),
    (
        "time to target",
        (
            "Performance profiles (Dolan and Moré, 2002); AlgoPerf's score, the profile's "
            "integral from 1 to 4 over 3 (Dahl et al., 2023). A miss is infinite. Seconds "
            "only where each trial had its device to itself."
        ),
    ),
    (
        "learning-rate sensitivity",
        (
            "Loss of gain over the grid, with scores cut at the untrained net's (after "
            "Wortsman et al., 2023). Good keeps 95% of the gain."
        ),
    ),
    (
        "budget",
        (
            "Expected maximum of k configs (Dodge et al., 2019) by the unbiased estimator "
            "without replacement (Tang et al., 2020)."
        ),
    ),
    (
        "importance",
        (
            "Total effects (Sobol; Jansen, 1999) on a random forest, after fANOVA (Hutter "
            "et al., 2014)."
        ),
    ),
    (
        "divergence",
        (
            "A trial whose loss was no longer finite counts as worse than any value "
            "wherever only the order matters, and has no value elsewhere. Nothing is "
            "imputed."
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Methods:
    notes: tuple[tuple[str, str], ...]


def record(comparison: Comparison) -> Methods:  # noqa: ARG001 - all sections share one signature
    return Methods(METHODS)


def blocks(methods: Methods) -> tuple[Block, ...]:
    return (
        Paragraph("How each figure is made:"),
        Table((Column("figure"), Column("method")), methods.notes),
    )


SECTION = Section(name="methods", title="Methods", place=140, record=record, blocks=blocks)
