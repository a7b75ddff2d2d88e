"""Trials that share their inputs compute what each computes by itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.training.stacked.modules.forward_pass import SharedInputs

B, IN, OUT = 3, 4, 2
IN_BLOCKS = [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]


def drawn(*shape: int) -> Tensor:
    made = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return made.requires_grad_()


@given(
    owner=st.one_of(
        st.permutations(IN_BLOCKS),
        st.just(IN_BLOCKS),
        st.lists(st.integers(0, 2), min_size=1, max_size=9),
    ),
    biased=st.booleans(),
)
def test_a_linear_layer_computes_what_each_trial_computes(owner: list[int], biased: bool) -> None:
    x = drawn(3, B, IN).detach()
    weight, bias = drawn(len(owner), OUT, IN), drawn(len(owner), OUT) if biased else None
    wanted = torch.stack(
        [
            torch.nn.functional.linear(x[source], weight[k], None if bias is None else bias[k])
            for k, source in enumerate(owner)
        ]
    )
    leaves = [weight] if bias is None else [weight, bias]
    expected = torch.autograd.grad(wanted.square().sum(), leaves)
    out = SharedInputs.of(torch.tensor(owner), 3).linear(x, weight, bias)
    found = torch.autograd.grad(out.square().sum(), leaves)
    for one, other in zip((out, *found), (wanted, *expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("owner", "blocks"),
    [
        (IN_BLOCKS, 2),
        ([0, 0, 0], 1),
        ([0, 1, 0, 1], 2),
        ([1, 0, 1, 0], 0),
        ([0, 0, 1, 1, 0, 1], 0),
        ([0, 0, 0, 1], 0),
    ],
)
def test_blocks_of_a_full_grid_are_recognised(owner: list[int], blocks: int) -> None:
    assert SharedInputs.of(torch.tensor(owner), max(owner) + 1).blocks == blocks


def test_inputs_receive_their_gradient() -> None:
    x, weight = drawn(2, B, IN), drawn(4, OUT, IN)
    sharing = SharedInputs.of(torch.tensor([0, 1, 0, 1]), 2)
    (found,) = torch.autograd.grad(sharing.linear(x, weight, None).sum(), [x])
    by_row = weight.detach().sum(1)
    wanted = torch.stack([by_row[0] + by_row[2], by_row[1] + by_row[3]])
    torch.testing.assert_close(found, wanted.unsqueeze(1).expand_as(found))
