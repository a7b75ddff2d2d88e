"""Counts and lists in sentences."""

from __future__ import annotations

from harness.core.text import counted, listed, told_apart


def test_one_takes_no_plural() -> None:
    assert counted(1, "seed") == "1 seed"
    assert counted(0, "seed") == "0 seeds"
    assert counted(2, "study", "studies") == "2 studies"


def test_the_last_of_a_list_follows_and() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_addresses_are_told_apart_by_what_differs() -> None:
    assert told_apart(["sqlite:///a/x/db", "sqlite:///b/x/db"]) == ["a", "b"]
    assert told_apart(["/w/h/three/db", "/w/three/db"]) == ["h/three", "three"]
    assert told_apart(["/a/db"]) == ["db"]
    assert told_apart(["http://h:1", "http://h:2"]) == ["h:1", "h:2"]
