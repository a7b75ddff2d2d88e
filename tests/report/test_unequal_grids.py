"""What a report says of a grid that is not a product: contenders with other learning rates, or with
more configs than others."""

from __future__ import annotations

from collections.abc import Iterable

from harness.report.blocks import Paragraph
from harness.report.section import Section
from harness.report.sections import best_of_each, importance, sensitivity
from harness.store.read.runs import StoredRun
from tests.report_support import section_record
from tests.stored import results, seeds


def runs(optimizer: str, rates: Iterable[float], **fields: object) -> list[StoredRun]:
    return [
        run
        for lr in rates
        for run in seeds([0.5 + lr / 10, 0.6 + lr / 10], optimizer=optimizer, lr=lr, **fields)
    ]


def text_of(section: Section, stored: list[StoredRun]) -> str:
    record = section_record(results(*stored), section.name)
    return " ".join(b.text for b in section.blocks(record) if isinstance(b, Paragraph))


PRODUCT = runs("sgd", (0.01, 0.1)) + runs("adam", (0.01, 0.1))
OTHER_RATES = runs("sgd", (0.01, 0.1)) + runs("adam", (0.001, 0.01))
MORE = runs("sgd", (0.01, 0.1)) + runs("adam", (0.001, 0.01, 0.1))


def test_the_best_of_more_configs_is_said_to_be_so() -> None:
    section = best_of_each.SECTION
    assert "chosen among 2 to 3 configs" in text_of(section, MORE)
    for stored in (PRODUCT, OTHER_RATES):
        assert "chosen among" not in text_of(section, stored)


def test_sensitivities_over_other_rates_are_not_compared() -> None:
    section = sensitivity.SECTION
    assert "cannot be compared with each other" not in text_of(section, PRODUCT)
    for stored in (OTHER_RATES, MORE):
        assert "cannot be compared with each other" in text_of(section, stored)


def test_importance_says_that_axes_did_not_vary_independently() -> None:
    rates = [10 ** (-n / 4) for n in range(12)]
    both = runs("sgd", rates) + runs("adam", rates)
    assert "without a score" not in text_of(importance.SECTION, both)
    gaps = runs("sgd", rates[:10]) + runs("adam", rates[1:])
    assert "3 combinations of these axes without a score" in text_of(importance.SECTION, gaps)
