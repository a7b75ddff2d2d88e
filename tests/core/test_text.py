"""Counts, lists and addresses in sentences."""

from __future__ import annotations

from harness.core.text import distinct_parts, join_with_and, plural


def test_plurals() -> None:
    assert plural(1, "seed") == "1 seed"
    assert plural(0, "seed") == "0 seeds"
    assert plural(2, "study", "studies") == "2 studies"


def test_and_precedes_the_last_of_a_list() -> None:
    assert join_with_and(["a"]) == "a"
    assert join_with_and(["a", "b"]) == "a and b"
    assert join_with_and(["a", "b", "c"]) == "a, b and c"


def test_addresses_are_shortened_to_what_differs() -> None:
    assert distinct_parts(["sqlite:///a/x/db", "sqlite:///b/x/db"]) == ["a", "b"]
    assert distinct_parts(["/w/h/three/db", "/w/three/db"]) == ["h/three", "three"]
    assert distinct_parts(["/a/db"]) == ["db"]
    assert distinct_parts(["http://h:1", "http://h:2"]) == ["h:1", "h:2"]
