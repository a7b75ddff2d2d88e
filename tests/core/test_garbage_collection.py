"""Rare collection of cyclic garbage, within a block only."""

from __future__ import annotations

import gc
from contextlib import suppress

from harness.core.process import RARE_THRESHOLDS, rare_garbage_collection


def test_the_collector_is_restored_after_the_block() -> None:
    before = gc.get_threshold()
    with suppress(KeyError), rare_garbage_collection():
        assert gc.get_threshold() == RARE_THRESHOLDS
        assert gc.get_freeze_count() > 0
        raise KeyError
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_cycles_are_still_collected() -> None:
    """Memory stays bounded even if objects are in cycles."""

    class Cycle:
        alive = 0

        def __init__(self) -> None:
            self.own = self
            Cycle.alive += 1

        def __del__(self) -> None:
            Cycle.alive -= 1

    gc.collect()
    with rare_garbage_collection():
        for _ in range(3 * RARE_THRESHOLDS[0]):
            Cycle()
        assert Cycle.alive < 2 * RARE_THRESHOLDS[0]
