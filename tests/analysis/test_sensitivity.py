"""Learning rates labelled by the rule, and the importance of axes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.analysis.sensitivity import FinalScores, Sensitivity, sensitivity
from harness.report.sections.importance import importance


def rates(
    scores: dict[float, list[float]],
    untrained: float | None,
    direction: str = "max",
    diverged: dict[float, int] | None = None,
) -> Sensitivity:
    finals = [FinalScores(lr=lr, values=tuple(v), diverged=0) for lr, v in scores.items()]
    finals += [FinalScores(lr=lr, values=(), diverged=n) for lr, n in (diverged or {}).items()]
    return sensitivity("", "sgd", finals, untrained, direction, np.random.default_rng(0))  # type: ignore[arg-type]


def regimes(found: Sensitivity) -> list[str]:
    return [rate.regime for rate in found.rates]


def test_the_four_regimes_by_hand() -> None:
    """Untrained .1, best .9: .86 keeps 95% of the gain, .85 does not."""
    found = rates({0.001: [0.2], 0.01: [0.86], 0.1: [0.9], 1.0: [0.85]}, 0.1, diverged={10.0: 3})

    assert regimes(found) == ["too low", "good", "good", "too high", "diverged"]
    assert (found.best, found.good, found.decades) == (0.1, (0.01, 0.1), pytest.approx(1.0))
    assert (found.edge, found.open_ended) == ("", False)
    kept = [0.125, 0.95, 1.0, 0.9375, 0.0]
    assert found.sensitivity == pytest.approx(1 - np.mean(kept))


def test_a_loss_that_exploded_but_is_finite_is_too_high() -> None:
    found = rates({0.01: [0.5], 0.1: [0.1], 1.0: [1e9], 10.0: [1e300]}, 2.3, "min")

    assert regimes(found) == ["too low", "good", "too high", "too high"]
    assert found.rates[-1].kept == 0.0
    assert found.sensitivity is not None
    assert found.sensitivity <= 1


def test_a_net_that_broke_is_not_good() -> None:
    """It ends at an untrained net's score, whatever it had reached before."""
    assert regimes(rates({0.1: [0.95], 1.0: [0.1], 10.0: [0.1]}, 0.1))[1:] == ["too high"] * 2


def test_no_rate_is_good_if_none_learns() -> None:
    found = rates({0.1: [0.1], 1.0: [0.09]}, 0.1)

    assert regimes(found) == ["unknown", "unknown"]
    assert found.good is None
    assert found.sensitivity is None


def test_without_the_untrained_score_only_divergence_is_known() -> None:
    assert regimes(rates({0.1: [0.9]}, None, diverged={1.0: 2})) == ["unknown", "diverged"]


def test_half_of_the_seeds_diverging_is_divergence() -> None:
    finals = [
        FinalScores(lr=0.1, values=(0.9, 0.9), diverged=0),
        FinalScores(lr=1.0, values=(0.9, 0.9, 0.9), diverged=2),
        FinalScores(lr=10.0, values=(0.9, 0.9), diverged=2),
    ]
    found = sensitivity("", "a", finals, 0.1, "max", np.random.default_rng(0))

    assert regimes(found) == ["good", "good", "diverged"]


def test_a_best_rate_at_the_edge_is_flagged() -> None:
    assert rates({0.1: [0.5], 1.0: [0.9]}, 0.1).edge == "highest"
    assert rates({0.1: [0.9], 1.0: [0.9]}, 0.1).open_ended
    assert rates({0.1: [0.9]}, 0.1).edge == "only"


def test_a_gap_ends_the_good_region() -> None:
    found = rates({0.001: [0.9], 0.01: [0.5], 0.1: [0.91], 1.0: [0.5]}, 0.1)

    assert regimes(found) == ["good", "too low", "good", "too high"]
    assert found.good == (0.1, 0.1)


def test_of_several_configs_at_one_rate_the_one_that_diverges_least_counts() -> None:
    finals = [
        FinalScores(lr=0.1, values=(0.99,), diverged=1),
        FinalScores(lr=0.1, values=(0.8, 0.8), diverged=0),
        FinalScores(lr=0.1, values=(0.7, 0.7), diverged=0),
    ]
    (rate,) = sensitivity("", "a", finals, 0.1, "max", np.random.default_rng(0)).rates

    assert (rate.final, rate.n) == (pytest.approx(0.8), 2)


def factorial(levels: int = 6) -> pd.DataFrame:
    grid = [(a, b, c) for a in range(levels) for b in range(levels) for c in range(2)]
    return pd.DataFrame(grid, columns=["lr", "width", "scheduler"]).astype(str)


def test_importance_of_a_sum_is_its_variances() -> None:
    """y = 3a + b: Sobol's effects are 9/10 and 1/10; the third axis has no part."""
    axes = factorial()
    score = 3 * axes["lr"].astype(float) + axes["width"].astype(float)

    found = importance("", axes, score.tolist(), np.random.default_rng(0))

    assert found is not None
    shares = {axis.name: axis.share for axis in found.axes}
    assert shares["lr"] == pytest.approx(0.9, abs=0.08)
    assert shares["width"] == pytest.approx(0.1, abs=0.05)
    assert shares["scheduler"] < 0.02
    assert found.explained > 0.9
    assert all(both.share < 0.05 for both in found.interactions)


def test_what_needs_two_axes_is_an_interaction() -> None:
    """y = ab of centred axes: neither has an effect alone."""
    axes = factorial()
    score = (axes["lr"].astype(float) - 2.5) * (axes["width"].astype(float) - 2.5)

    found = importance("", axes, score.tolist(), np.random.default_rng(0))

    assert found is not None
    first = found.interactions[0]
    assert {first.first, first.second} == {"lr", "width"}
    assert first.share > 0.8


@pytest.mark.filterwarnings("error")
def test_losses_that_exploded_do_not_stop_it() -> None:
    axes = factorial()
    score = 1e200 * axes["lr"].astype(float)
    found = importance("", axes, score.tolist(), np.random.default_rng(0))
    assert found is not None
    assert found.axes[0].name == "lr"


def test_too_few_or_equal_scores_have_no_importance() -> None:
    axes = factorial()
    assert importance("", axes.head(10), list(range(10)), np.random.default_rng(0)) is None
    assert importance("", axes, [1.0] * len(axes), np.random.default_rng(0)) is None
