"""The contract of an augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from harness.core.seeding import host_random_states
from harness.diagnostics.contract.case import Case, Check, generator, require, shape_of

if TYPE_CHECKING:
    from torch import Tensor

IMAGES: Final = 32
SHAPE: Final = (3, 12, 10)
"""Of the images on which it is checked where the data set has none."""


def keeps_the_shape(case: Case) -> Iterator[str]:
    """It returns a new batch of the same shape and type, and leaves its input as it is."""
    import torch

    batch = _images(case)
    kept = batch.clone()
    changed = _apply(case, batch, 1)
    is_right = isinstance(changed, torch.Tensor) and changed.shape == batch.shape
    require(is_right, f"it returns {shape_of(changed)} for a batch of {shape_of(batch)}")
    require(changed.dtype == batch.dtype, f"it returns {changed.dtype}; expected {batch.dtype}")
    require(torch.equal(batch, kept), "it changes the batch in place: the data would change")
    yield from ()


def draws_from_its_generator_alone(case: Case) -> Iterator[str]:
    """Its generator is its only source of random numbers."""
    import torch

    batch = _images(case)
    first = _apply(case, batch, 1)
    state, host = torch.get_rng_state(), host_random_states()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        again = _apply(case, batch, 1)
    rule = "draw all random numbers from the generator that it is given"
    require(torch.equal(first, again), f"the same generator gives another result: {rule}")
    used = host_random_states()
    is_kept = torch.equal(state, torch.get_rng_state())
    require(is_kept, f"it draws from torch's global generator: {rule}")
    require(host["python"] == used["python"], f"it draws from Python's random: {rule}")
    require(host["numpy"] == used["numpy"], f"it draws from numpy.random: {rule}")
    if torch.equal(first, _apply(case, batch, 2)):
        yield "every generator gives the same result: it changes nothing at random"


def draws_for_each_image(case: Case) -> Iterator[str]:
    """It draws anew for each image of a batch, and for the next batch."""
    import torch

    same = _images(case)[:1].expand(IMAGES, -1, -1, -1).clone()
    one, other = _apply(case, same, 1), _apply(case, same, 2)
    if not torch.equal(one, other) and len(one.unique(dim=0)) == 1:
        yield "it makes one draw for the whole batch"


def _apply(case: Case, batch: Tensor, seed: int) -> Any:
    return case.choice.component.build(case.choice.options)(batch, generator(seed))


def _images(case: Case) -> Tensor:
    import torch

    shape = case.info.shape if case.info.is_image else SHAPE
    return torch.rand(IMAGES, *shape, generator=generator(0))


CHECKS: Final[tuple[Check, ...]] = (
    keeps_the_shape,
    draws_from_its_generator_alone,
    draws_for_each_image,
)
