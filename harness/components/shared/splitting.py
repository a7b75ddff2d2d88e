"""Options of data sets without test examples of their own."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from harness.components.base import Options, SplitRule

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
