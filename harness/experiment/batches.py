"""Whether a model can train on the batches that a data set leaves it.

Batch normalisation cannot normalise over one value, as in a batch of one example, where a layer's
channels have one pixel. The last batch of an epoch has one example if the number of training
examples is a multiple of the batch size, plus one.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import count

from harness.components.base import DataInfo, Model
from harness.components.shared.layers import build_on_meta
from harness.core.errors import Problem
from harness.experiment.trial import Choice


def single_example_problem(
    model: Choice[Model], info: DataInfo, examples: int, batch_size: int
) -> Problem | None:
    """Returns the problem of a model that cannot train on a batch of one, where there is such a
    batch.

    examples: the size of the training split.
    """
    if not _has_single_example(examples, batch_size):
        return None
    layer = _refusing_layer(model, info, 1)
    if layer is None:
        return None
    of = "one" if batch_size == 1 else f"{batch_size}, the last of one"
    what = (
        f"{model.label} cannot train on {examples} examples in batches of {of}: its layer {layer} "
        f"cannot normalise over one value"
    )
    if examples == 1 or _refusing_layer(model, info, 2) is not None:
        return Problem(what, hint="it needs more examples, or larger images")
    fitting = next(n for n in count(batch_size + 1) if not _has_single_example(examples, n))
    return Problem(what, hint=f"for example, batch_size: {fitting}")


def _has_single_example(examples: int, batch_size: int) -> bool:
    return examples > 0 and (batch_size == 1 or examples % batch_size == 1)


@lru_cache(maxsize=64)
def _refusing_layer(model: Choice[Model], info: DataInfo, batch_size: int) -> str | None:
    """Returns the layer that cannot normalise a batch of this size; None if none is known.

    The model runs without data or values, on torch's meta device.
    """
    import torch

    outputs = max(info.targets, info.classes)
    names: list[str] = []
    try:
        network = build_on_meta(lambda: model.component.build(model.options, info, outputs))
        for name, part in network.named_modules():
            label = f"{name} ({type(part).__name__})"
            part.register_forward_pre_hook(lambda *_, label=label: names.append(label))
        network.train()
        with torch.no_grad():
            kind = torch.int64 if info.tokens else torch.float32
            network(torch.empty((batch_size, *info.shape), dtype=kind, device="meta"))
    except ValueError as error:
        if "Expected more than 1" in str(error):  # As torch's normalisations say.
            return names[-1]
    except Exception:  # noqa: BLE001, S110 - whatever a model raises that needs real values
        pass
    return None
