"""Training steps as users write them, and mistakes in them."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn.functional import cross_entropy

import harness

Losses = tuple[Tensor, Tensor]


@harness.training_step
def plain(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    """The harness's own step."""
    outputs = model(batch.inputs)
    return cross_entropy(outputs, batch.targets, reduction="none"), outputs


@harness.training_step
def sharpened(
    model: nn.Module,
    batch: harness.Batch,
    generator: torch.Generator,
    alpha: Annotated[float, Field(ge=0)] = 0.1,
) -> Losses:
    """Adds the entropy.

    Args:
        alpha: weight of the entropy.
    """
    inputs, targets = batch
    outputs = model(inputs)
    entropy = -(outputs.softmax(1) * outputs.log_softmax(1)).sum(1)
    return cross_entropy(outputs, targets, reduction="none") + alpha * entropy, outputs


@harness.training_step
def mixup(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    """Mixes pairs of examples (Zhang et al., ICLR 2018), with their α of 1."""
    inputs, targets = batch
    share = torch.rand(1, generator=generator, device=inputs.device)
    order = torch.randperm(len(inputs), generator=generator, device=inputs.device)
    outputs = model(share * inputs + (1 - share) * inputs[order])
    first = cross_entropy(outputs, targets, reduction="none")
    second = cross_entropy(outputs, targets[order], reduction="none")
    return share * first + (1 - share) * second, outputs


@harness.training_step
def noisy(
    model: nn.Module, batch: harness.Batch, generator: torch.Generator, data: harness.DataInfo
) -> Losses:
    """Noise on the inputs, which two passes see."""
    noise = torch.randn(len(batch.inputs), data.features, generator=generator)
    outputs, again = model(batch.inputs), model(batch.inputs + 0.1 * noise.view_as(batch.inputs))
    consistency = (outputs - again).square().mean(1)
    return cross_entropy(outputs, batch.targets, reduction="none") + consistency, outputs


@harness.training_step
def beta(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    """Draws from torch's global generator."""
    share = Beta(0.4, 0.4).sample()
    outputs = model(batch.inputs * share)
    return cross_entropy(outputs, batch.targets, reduction="none"), outputs


@harness.training_step
def filled(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    """Draws in place."""
    noise = torch.empty_like(batch.inputs).normal_(generator=generator)
    outputs = model(batch.inputs + 0.1 * noise)
    return cross_entropy(outputs, batch.targets, reduction="none"), outputs


@harness.training_step
def by_seed(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    """Depends on the generator's seed, which the trials of a stack do not have."""
    outputs = model(batch.inputs) * (1 + generator.initial_seed() % 7)
    return cross_entropy(outputs, batch.targets, reduction="none"), outputs


@harness.training_step
def counting(model: Any, batch: harness.Batch, generator: torch.Generator) -> Losses:
    """Keeps a count in the model."""
    model.count = getattr(model, "count", 0) + 1
    return plain(model, batch, generator)


@harness.training_step
def scalar(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    outputs = model(batch.inputs)
    return cross_entropy(outputs, batch.targets), outputs


@harness.training_step
def too_short(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    losses, outputs = plain(model, batch, generator)
    return losses[1:], outputs


@harness.training_step
def no_outputs(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Any:
    return plain(model, batch, generator)[0]


@harness.training_step
def nothing(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Any:
    plain(model, batch, generator)


@harness.training_step
def swapped(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    losses, outputs = plain(model, batch, generator)
    return outputs, losses


@harness.training_step
def fewer_outputs(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    losses, outputs = plain(model, batch, generator)
    return losses, outputs[:, 1:]


@harness.training_step
def detached(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    losses, outputs = plain(model, batch, generator)
    return losses.detach(), outputs


@harness.training_step
def in_place(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    batch.inputs.mul_(2)
    return plain(model, batch, generator)


@harness.training_step
def broken(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    return plain(model, batch.images, generator)  # type: ignore[attr-defined]


@harness.training_step
def backward(model: nn.Module, batch: harness.Batch, generator: torch.Generator) -> Losses:
    losses, outputs = plain(model, batch, generator)
    losses.mean().backward(retain_graph=True)
    return losses, outputs
