"""How examples are divided: the options of a test split, and the sizes of all splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil

from pydantic import Field

from harness.components.base import Options, SplitRule
from harness.core.errors import InputError, Problem

SPLITTING = ("sklearn.model_selection",)
"""The modules that cutting a test split imports, for `Dataset.imports`."""


class SplitOptions(Options):
    """How the test split is cut, as by scikit-learn's `train_test_split`."""

    test_fraction: float = Field(
        0.2, ge=0, lt=1, description="fraction for testing; 0 tests on the training examples"
    )
    split_seed: int | None = Field(
        0, ge=0, lt=2**32, description="seed of the split; null follows the trial's seed"
    )

    def split_rule(self) -> SplitRule:
        return SplitRule(self.test_fraction, self.split_seed)


class StratifiedSplitOptions(SplitOptions):
    """Split options of a classification."""

    stratify: bool = Field(False, description="keep the class proportions in both parts")

    def split_rule(self) -> SplitRule:
        return replace(super().split_rule(), stratify=self.stratify)


def training_size(rule: SplitRule, counts: Mapping[str, int]) -> int:
    """Returns how many examples are left to train on once the test split is cut.

    counts: the number of examples by class; of all, under any name, if the rule does not stratify.
    Raises InputError if the rule cannot be followed.
    """
    n = sum(counts.values())
    if rule.test_fraction == 0:
        return n
    test = ceil(n * rule.test_fraction)
    if test >= n:
        of = f"{rule.test_fraction} of {n} examples"
        raise InputError(f"test_fraction: {of} leaves none to train on")
    if rule.stratify:
        _check_strata(test, {name: count for name, count in counts.items() if count})
    return n - test


def _check_strata(test: int, counts: Mapping[str, int]) -> None:
    """Raises InputError unless each class can have an example in both parts, as scikit-learn asks.

    test: the size of the test split.
    """
    way_out = "or set stratify: false"
    alone = [name for name, count in counts.items() if count == 1]
    if alone:
        names = ", ".join(map(repr, alone))
        what = f"stratify: a class must be in both parts, and these have one example: {names}"
        raise InputError(Problem(what, hint=f"add examples, leave such a class out, {way_out}"))
    n, classes = sum(counts.values()), len(counts)
    for part, size in (("test", test), ("training", n - test)):
        if size < classes:
            what = (
                f"stratify: a {part} split of {size} of {n} examples cannot have {classes} classes"
            )
            raise InputError(Problem(what, hint=f"change test_fraction, {way_out}"))


def validation_size(n: int, fraction: float) -> int:
    """Returns how many of n training examples `val_fraction` holds out.

    Raises InputError if it leaves none to train on.
    """
    size = ceil(n * fraction)
    if size >= n:
        raise InputError(
            f"val_fraction: {fraction} of {n} training examples leaves none to train on"
        )
    return size
