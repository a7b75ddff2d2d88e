"""Counts and lists in sentences."""

from __future__ import annotations

from harness.words import counted, listed


def test_one_takes_no_plural() -> None:
    assert counted(1, "seed") == "1 seed"
    assert counted(0, "seed") == "0 seeds"
    assert counted(2, "study", "studies") == "2 studies"


def test_the_last_of_a_list_follows_and() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
