"""Intercepted dropout is torch's dropout with given masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.training.stacked.modules.dropout import DropoutInterceptor, EpochDropoutMasks, MaskSpec
from harness.training.stacked.modules.forward_pass import Unstackable

KINDS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...], tuple[int, ...]]] = {
    "each number": (functional.dropout, (5, 4, 3), (5, 4, 3)),
    "channels of sequences": (functional.dropout1d, (5, 4, 3), (5, 4, 1)),
    "channels of one sequence": (functional.dropout1d, (40, 3), (40, 1)),
    "channels of images": (functional.dropout2d, (5, 4, 3, 2), (5, 4, 1, 1)),
    "channels of volumes": (functional.dropout3d, (5, 4, 3, 2, 2), (5, 4, 1, 1, 1)),
    "channels of one volume": (functional.dropout3d, (40, 3, 2, 2), (40, 1, 1, 1)),
    "alpha": (functional.alpha_dropout, (5, 4, 3), (5, 4, 3)),
    "alpha, channels": (functional.feature_alpha_dropout, (5, 4, 3), (5, 4, 1)),
}
P = 0.3


@pytest.mark.parametrize(("drop", "shape", "masked"), KINDS.values(), ids=KINDS)
def test_every_dropout_function(
    drop: Callable[..., Tensor], shape: tuple[int, ...], masked: tuple[int, ...]
) -> None:
    """The mask is read from torch's result."""
    x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = drop(x, P, True)
    # The smallest of a kept value is larger than what dropped ones become.
    mask = (theirs > 0.5).double() / (1 - P)
    for size in range(len(masked)):
        if masked[size] == 1:
            mask = mask.narrow(size, 0, 1)
    assert 0 < mask.count_nonzero() < mask.numel()
    dropouts = DropoutInterceptor([MaskSpec(masked, P)])
    dropouts.masks = [mask]
    with dropouts:
        mine = drop(x, P, True)
    assert dropouts.seen == [MaskSpec(masked, P)]
    torch.testing.assert_close(mine, theirs, rtol=1e-14, atol=1e-14)


def test_modules_and_default_arguments_are_intercepted() -> None:
    x = torch.ones(3, 2)
    dropouts = DropoutInterceptor()
    with dropouts:
        kept = nn.Dropout(0.2)(functional.dropout(input=x))
        functional.alpha_dropout(x, 0.9)  # Which by default is no training.
        nn.Dropout(0.2).eval()(x)
        nn.Dropout(0.0)(x)
    assert torch.equal(kept, x)
    assert dropouts.seen == [MaskSpec((3, 2), 0.5), MaskSpec((3, 2), 0.2)]


def test_in_place_is_in_place() -> None:
    x = torch.ones(3)
    dropouts = DropoutInterceptor([MaskSpec((3,), 0.5)])
    dropouts.masks = [torch.tensor([2.0, 0.0, 2.0])]
    with dropouts:
        functional.dropout(x, 0.5, True, inplace=True)
    assert x.tolist() == [2.0, 0.0, 2.0]


@pytest.mark.parametrize("change", [{"p": 0.4}, {"input": torch.ones(2, 3)}])
def test_dropout_that_needs_another_mask_than_expected_is_refused(change: dict[str, Any]) -> None:
    dropouts = DropoutInterceptor([MaskSpec((3, 2), 0.5)])
    dropouts.masks = [torch.ones(3, 2)]
    arguments: dict[str, Any] = {"input": torch.ones(3, 2), "p": 0.5} | change
    with dropouts, pytest.raises(Unstackable, match="from one batch to the next"):
        functional.dropout(**arguments)


def test_masks_of_a_shorter_batch_wherever_it_has_its_examples() -> None:
    """A sequence's examples are its second dimension. Streams continue as after a whole batch."""
    one, other = (EpochDropoutMasks([3], torch.tensor([0, 0]), 1, torch.float32) for _ in range(2))
    for masks in (one, other):
        masks.next("0.0", (7, 5, 2), 0.5)
    short = one.next("0.0", (7, 3, 2), 0.5)
    assert torch.equal(short, other.next("0.0", (7, 5, 2), 0.5)[:, :, :3])
    assert torch.equal(one.next("0.0", (7, 5, 2), 0.5), other.next("0.0", (7, 5, 2), 0.5))


def test_masks_that_drop_everything_are_zeros() -> None:
    masks = EpochDropoutMasks([0], torch.tensor([0]), 1, torch.float32)
    assert torch.equal(masks.next(0, (2, 3), 1.0), torch.zeros(1, 2, 3))
