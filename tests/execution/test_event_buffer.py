"""How a worker sends events: those of a stack's epoch in one message, any other at once."""

from __future__ import annotations

import multiprocessing
import pickle
from typing import Any

from harness.core.records import Ended, Measured, Outcome, Record, Started, TestOutputs
from harness.execution.executors.base import Event
from harness.execution.executors.worker import EventBuffer


def sent(keys: str, records: list[tuple[str, Record]]) -> list[list[Event]]:
    """The messages that these records of trials cause."""
    ours, theirs = multiprocessing.Pipe()
    buffer = EventBuffer(theirs, set(keys))
    for key, record in records:
        buffer.put(Event(key, record))
    found: list[Any] = []
    while ours.poll():
        found.append(pickle.loads(ours.recv_bytes()))
    return found


def of(messages: list[list[Event]]) -> list[str]:
    names = {Started: "s", Measured: "m", Ended: "e"}
    return [" ".join(names[type(e.record)] + e.key for e in events) for events in messages]


STARTED = Started({"fused": 2})
DONE = Ended(Outcome.DONE, {})


def test_a_stacks_epoch_is_one_message() -> None:
    epochs = [(key, Measured(epoch, {}, 0)) for epoch in (0, 1) for key in "ab"]
    found = sent("ab", [("a", STARTED), ("b", STARTED), *epochs, ("a", DONE), ("b", DONE)])
    assert of(found) == ["sa sb ma mb", "ma mb", "ea eb"]


def test_an_epoch_is_whole_without_those_that_left() -> None:
    left = Ended(Outcome.DIVERGED, {})
    found = sent(
        "ab", [("a", STARTED), ("b", STARTED), ("a", left), ("b", Measured(0, {}, 0)), ("b", DONE)]
    )
    assert of(found) == ["sa sb ea mb", "eb"]


def test_events_of_a_lone_trial_are_sent_at_once() -> None:
    found = sent("a", [("a", Started({})), ("a", Measured(0, {}, 0)), ("a", DONE)])
    assert of(found) == ["sa", "ma", "ea"]
    found = sent("ab", [("a", Started({"not_fused": "why"})), ("a", Measured(0, {}, 0))])
    assert of(found) == ["sa", "ma"]


def test_weights_of_many_trials_do_not_travel_together() -> None:
    import torch

    nothing = torch.zeros(0)
    kept = Ended(
        Outcome.DONE,
        {},
        test_outputs=TestOutputs(state_dict={}, outputs=nothing, targets=nothing, inputs=nothing),
    )
    found = sent("ab", [("a", STARTED), ("b", STARTED), ("a", kept), ("b", kept)])
    assert of(found) == ["sa sb ea", "eb"]
