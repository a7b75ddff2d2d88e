"""Which trials of a plan can train together as one stack, and why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import STACKABLE_FIELDS, TRIAL_FIELDS, Choice, Trial

AUTO_STACK_SIZE: Final = 128
"""Trials in a stack of `--fuse auto`: beyond it a small network gains no more, what a stack holds
grows, and its trials are all written at once."""


@dataclass(frozen=True, slots=True)
class StackingPlan:
    """groups: of two trials or more, in the plan's order. alone: the others, each with the reason
    for people."""

    groups: tuple[tuple[PlannedTrial, ...], ...]
    alone: tuple[tuple[PlannedTrial, str], ...]

    def judged(self, refuses: Callable[[Trial], str | None]) -> StackingPlan:
        """The same where each group's architecture was looked at: those that `refuses` has a reason
        against train alone."""
        reasons = [refuses(members[0].trial) for members in self.groups]
        pairs = list(zip(self.groups, reasons, strict=True))
        kept = tuple(members for members, reason in pairs if reason is None)
        refused = [(one, reason) for members, reason in pairs if reason for one in members]
        return StackingPlan(kept, (*self.alone, *refused))

    def lines(self) -> list[str]:
        """What is stacked and what is not, with the reasons, for people."""
        sizes = Counter(len(members) for members in self.groups)
        told = [f"{n} of {size} trials" for size, n in sorted(sizes.items(), reverse=True)]
        reasons = Counter(reason for _, reason in self.alone)
        return [
            f"stacks: {', '.join(told) or 'none'}",
            *(f"one by one: {n} of the trials: {reason}" for reason, n in reasons.most_common()),
        ]


def plan_stacks(trials: Sequence[PlannedTrial], most: int, slots: int = 1) -> StackingPlan:
    """Put together what can train together, in groups of at most `most` and of like sizes.

    slots: how many groups train at once. What can train together is put in a multiple of as many,
    so that none of them is idle while others train.

    Told without building anything: a model may still turn out to be one that cannot be stacked
    (`Unstackable`), and its trials then train one by one.
    """
    alike: dict[Hashable, list[PlannedTrial]] = {}
    key = _Key()
    for planned in trials:
        alike.setdefault(key.of(planned), []).append(planned)
    alone: list[tuple[PlannedTrial, str]] = []
    groups: list[tuple[PlannedTrial, ...]] = []
    for members in alike.values():
        for part in _parts(members, most, slots):
            if len(part) > 1:
                groups.append(tuple(part))
            else:
                alone.append((part[0], "no other trial is like it but for what a stack may vary"))
    return StackingPlan(tuple(groups), tuple(alone))


def max_stack_size(fuse: int | str) -> int:
    """The most trials of one stack. fuse: as the user set it, a number or "auto"."""
    return fuse if isinstance(fuse, int) else AUTO_STACK_SIZE


def _parts(members: list[PlannedTrial], most: int, slots: int) -> Iterable[list[PlannedTrial]]:
    """As few parts as `most` and a multiple of `slots` allow; sizes differ by one at most.

    Trials of one seed stay together, as they share their batches; of fewer seeds than parts, each
    part has some of every optimizer's, so that none takes longer than the others.
    """
    if most < 1:
        raise ValueError(f"a group of at most {most}")
    count = -(-len(members) // most)
    count = min(len(members), -(-count // slots) * slots)
    trials = [one.trial for one in members]
    if len({trial.seed for trial in trials}) < count:
        dealt = sorted(range(len(members)), key=lambda i: trials[i].optimizer.name)
        parts = [dealt[part::count] for part in range(count)]
    else:
        by_seed = sorted(range(len(members)), key=lambda i: trials[i].seed)
        size, larger = divmod(len(members), count)
        bounds = [part * size + min(part, larger) for part in range(count + 1)]
        parts = [by_seed[start:stop] for start, stop in pairwise(bounds)]
    return ([members[i] for i in sorted(part)] for part in parts)


class _Key:
    """What the trials of one stack have in common.

    A grid's trials share their choices, whose texts are made once for each object.
    """

    def __init__(self) -> None:
        self._names = [name for name in TRIAL_FIELDS if name not in STACKABLE_FIELDS]
        self._texts: dict[int, tuple[Choice[object], str]] = {}  # type: ignore[type-var]

    def of(self, planned: PlannedTrial) -> Hashable:
        values = (getattr(planned.trial, name) for name in self._names)
        return (planned.fingerprint, *(self._text(v) for v in values))

    def _text(self, value: Hashable) -> Hashable:
        if isinstance(value, tuple):
            return tuple(self._text(one) for one in value)
        if not isinstance(value, Choice):
            return value
        if id(value) not in self._texts:
            self._texts[id(value)] = (value, str(value.resolved()))
        return self._texts[id(value)][1]
