"""A trial's optimizer, driven as its class wants.

Most optimizers need one call of `step` after the backward pass. Some evaluate the loss again
(LBFGS, SAM): they get a closure. Some train other weights than they evaluate (schedule-free):
their `train()` and `eval()` are called around evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.components.base import DecayOptions, NamedParameter, Optimizer
from harness.experiment.trial import Choice
from harness.training.optimizer_state import load_state, stored_state
from harness.training.weight_decay import exclude_from_decay, undecayed

Evaluation = tuple[Tensor, Tensor]
"""A batch's logits [B, O] and losses [B]."""


def undecayed_names(choice: Choice[Optimizer], model: nn.Module) -> frozenset[str]:
    """Returns the names of the parameters that the option `no_decay` keeps from weight decay."""
    options = choice.options
    kinds = options.no_decay if isinstance(options, DecayOptions) else ()
    return undecayed(model, kinds) if kinds else frozenset()


class TrialOptimizer:
    """The optimizer of one trial.

    torch: the optimizer itself. named_parameters: those that it updates. without_decay: the names
    of those without weight decay. lr: the trial's, of which a schedule takes a share.
    """

    def __init__(
        self,
        choice: Choice[Optimizer],
        named_parameters: Iterable[NamedParameter],
        lr: float,
        without_decay: Collection[str] = (),
    ) -> None:
        named = list(named_parameters)
        component = choice.component
        self.torch = component.build(choice.options, named, lr)
        if without_decay:
            excluded = (parameter for name, parameter in named if name in without_decay)
            exclude_from_decay(self.torch, excluded, choice.name)
        self._parameters = [parameter for _, parameter in named]
        self._lr = lr
        self._own_rates = [group.get("lr") for group in self.torch.param_groups]
        self._needs_closure = component.needs_closure(choice.options)
        self._is_of_torch = type(self.torch).__module__.startswith("torch.optim.")
        self.averages = all(callable(getattr(self.torch, name, None)) for name in ("train", "eval"))
        if self.averages:
            self.torch.train()  # type: ignore[attr-defined]

    def set_lr(self, lr: float) -> None:
        """Sets the rate of the next update. A group with a rate of its own keeps its ratio to the
        trial's."""
        for group, own in zip(self.torch.param_groups, self._own_rates, strict=True):
            if own == self._lr:
                group["lr"] = lr
            elif isinstance(own, float | int):
                group["lr"] = own * (lr / self._lr)

    def step(
        self,
        evaluate: Callable[[], Evaluation],
        model: nn.Module,
        streams: Sequence[torch.Generator] = (),
    ) -> Evaluation:
        """Updates the parameters by one batch. Returns the first evaluation's results.

        evaluate: computes the batch's losses and adds the gradients of their mean. streams: what it
        draws from, beside torch's global streams.
        """
        self.torch.zero_grad(set_to_none=True)
        if not self._needs_closure:
            results = evaluate()
            self.torch.step()
            return results
        closure = _Closure(evaluate, model, self._parameters, streams)
        results = closure.begin()
        self.torch.step(closure)  # type: ignore[arg-type]
        closure.end()
        return results

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """While entered, the parameters are those to evaluate. On exit they are what they were, to
        the last bit: how often a trial is evaluated does not change its training."""
        if not self.averages or not self.torch.state:  # Before the first step there is no average.
            yield
            return
        trained = [parameter.detach().clone() for parameter in self._parameters]
        self.torch.eval()  # type: ignore[attr-defined]
        try:
            yield
        finally:
            self.torch.train()  # type: ignore[attr-defined]
            with torch.no_grad():
                for parameter, values in zip(self._parameters, trained, strict=True):
                    parameter.copy_(values)

    def state(self) -> dict[str, Any]:
        """Returns what `load` needs, not copies: what the optimizer tells, and numbers and tensors
        that it keeps elsewhere, as a counter of its own."""
        if self._is_of_torch:
            return {"optimizer": self.torch.state_dict()}
        return stored_state(self.torch)

    def load(self, state: Mapping[str, Any]) -> None:
        """Loads a state. Raises RuntimeError, ValueError or KeyError if it is of something else."""
        if self._is_of_torch:
            self.torch.load_state_dict(state["optimizer"])
        else:
            load_state(self.torch, state, self._parameters[0].device)


class _Closure:
    """Evaluates a batch again for an optimizer that asks for it.

    Every evaluation of a batch sees the same random numbers, and leaves random streams as the first
    one did. Buffers, as the statistics of batch normalisation, change by the first one alone.
    """

    def __init__(
        self,
        evaluate: Callable[[], Evaluation],
        model: nn.Module,
        parameters: Sequence[Tensor],
        streams: Sequence[torch.Generator],
    ) -> None:
        self._evaluate = evaluate
        self._parameters = parameters
        self._streams = streams
        self._buffers = list(model.buffers())
        self._devices = [p.device for p in parameters[:1] if p.device.type == "cuda"]

    def begin(self) -> Evaluation:
        """Evaluates for the first time. The gradients are in place before `step`, as SAM needs."""
        self._buffers_before = _copies(self._buffers)
        self._random_states = self._get_random_states()
        self._streams_before = self._get_streams()
        results = self._evaluate()
        self._buffers_after = _copies(self._buffers)
        self._first: Tensor | None = results[1].mean().detach()
        self._seen = _copies(self._parameters)
        self._gradients = _copies(_gradients(self._parameters))
        return results

    def __call__(self) -> Tensor:
        first, self._first = self._first, None
        if first is not None and self._is_unchanged():
            return first
        for parameter in self._parameters:
            parameter.grad = None
        _assign(self._buffers, self._buffers_before)
        streams_now = self._get_streams()
        with torch.enable_grad(), torch.random.fork_rng(self._devices):
            self._set_random_states()
            self._set_streams(self._streams_before)
            _, losses = self._evaluate()
        self._set_streams(streams_now)
        return losses.mean().detach()

    def end(self) -> None:
        _assign(self._buffers, self._buffers_after)

    def _is_unchanged(self) -> bool:
        """Whether parameters and gradients are still those of the first evaluation."""
        now = [*self._parameters, *_gradients(self._parameters)]
        before = [*self._seen, *self._gradients]
        return len(now) == len(before) and all(map(torch.equal, now, before))

    def _get_streams(self) -> list[Tensor]:
        return [stream.get_state() for stream in self._streams]

    def _set_streams(self, states: Iterable[Tensor]) -> None:
        for stream, state in zip(self._streams, states, strict=True):
            stream.set_state(state)

    def _get_random_states(self) -> list[Tensor]:
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._devices)]

    def _set_random_states(self) -> None:
        torch.set_rng_state(self._random_states[0])
        for device, state in zip(self._devices, self._random_states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)


def _copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _assign(tensors: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)
