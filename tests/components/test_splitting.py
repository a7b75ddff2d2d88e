"""How examples are divided: what a split rule leaves to train on, and what it cannot do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.components.base import SplitRule
from harness.components.shared.splitting import training_size
from harness.core.errors import InputError


@settings(deadline=None, max_examples=100)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    fraction=st.floats(0.001, 0.999),
    stratify=st.booleans(),
)
def test_a_split_is_refused_where_scikit_learn_refuses_it(counts, fraction, stratify) -> None:
    from sklearn.model_selection import train_test_split

    labels = np.repeat(np.arange(len(counts)), counts)
    try:
        train, _ = train_test_split(
            labels, test_size=fraction, random_state=0, stratify=labels if stratify else None
        )
    except ValueError:
        train = None
    rule = SplitRule(fraction, 0, stratify)
    by_class = dict(zip("abcde", counts, strict=False))
    if train is None:
        with pytest.raises(InputError, match=r"^(stratify|test_fraction): "):
            training_size(rule, by_class)
    else:
        assert training_size(rule, by_class) == len(train)
