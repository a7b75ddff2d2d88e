"""Options of data sets that have no test examples of their own."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from harness.components.base import Options, SplitRule

SPLITTING = ("sklearn.model_selection",)
"""What cutting a test split imports, for `Dataset.imports`."""


class SplitOptions(Options):
    """How the test split is cut; the same as scikit-learn's `train_test_split`."""

    test_fraction: float = Field(
        0.2, ge=0, lt=1, description="part kept for testing; 0 tests on the training examples"
    )
    split_seed: int | None = Field(
        0, ge=0, lt=2**32, description="seed of the cut; null follows the trial's seed"
    )

    def rule(self) -> SplitRule:
        return SplitRule(self.test_fraction, self.split_seed)


class StratifiedSplitOptions(SplitOptions):
    """The same for a classification, whose cut can keep the classes' proportions."""

    stratify: bool = Field(False, description="keep the classes' proportions in both parts")

    def rule(self) -> SplitRule:
        return replace(super().rule(), stratify=self.stratify)
