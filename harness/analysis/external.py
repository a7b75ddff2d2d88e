"""What a reader must know of results that another program made: the harness did not watch over how
they came about."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.comparison import Comparison
from harness.core.text import join_with_and


def cautions(comparison: Comparison) -> tuple[str, ...]:
    """Returns sentences about the results; none for the harness's own."""
    if comparison.external is None:
        return ()
    return (*comparison.external.notes, *_chosen(comparison))


def _chosen(comparison: Comparison) -> Iterator[str]:
    """Says what was chosen on the very metric that is compared."""
    score = comparison.score
    if score.test is not None or score.saw_test:
        return
    chosen = []
    if any(contender.configs > 1 for contender in comparison.contenders):
        chosen.append("each contender's best config")
    if score.epoch == "best":
        chosen.append("each trial's best step")
    if chosen:
        yield (
            f"{score.metric} chooses {join_with_and(chosen)}, and is compared too: the best of "
            "several is too good, and more so the more there were."
        )
