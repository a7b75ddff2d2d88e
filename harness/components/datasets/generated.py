"""Small tables that are drawn: one for each task for which scikit-learn contains no real one.

Targets depend on linear functions of the features, with noise. numpy's `RandomState` is frozen: it
draws the same numbers in all its versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.components.base import DataInfo, Dataset, Numbers, RawData, Task
from harness.components.shared.splitting import SPLITTING, SplitOptions, training_size
from harness.components.shared.tables import table_examples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Draw = Callable[[Any, np.random.RandomState, NDArray[Any]], NDArray[Any]]
    """(options, generator, inputs [N, features]) → targets."""


class GeneratedOptions(SplitOptions):
    examples: int = Field(1000, ge=10, le=1_000_000, description="how many examples are drawn")
    features: int = Field(20, ge=1, le=1000, description="how many features an example has")
    noise: float = Field(
        0.3, ge=0, description="standard deviation of the noise; that of what is learned is 1"
    )
    draw_seed: int = Field(0, ge=0, lt=2**32, description="seed of the examples")


class LabelsOptions(GeneratedOptions):
    labels: int = Field(5, ge=1, le=100, description="how many labels there are")
    share: float = Field(
        0.3, gt=0, lt=1, description="fraction of the examples that have a label, about"
    )


class RanksOptions(GeneratedOptions):
    classes: int = Field(5, ge=2, le=100, description="how many ordered classes there are")


class CountsOptions(GeneratedOptions):
    mean: float = Field(3.0, gt=0, le=1000, description="the median of the expected counts")
    slopes: Numbers = Field(
        (0.5,), min_length=1, description="change of the logarithm of each target's counts"
    )


def draw_labels(
    options: LabelsOptions, random: np.random.RandomState, inputs: NDArray[Any]
) -> NDArray[Any]:
    """Returns [N, labels]: 1 for the examples that score highest for a label."""
    import numpy as np

    scores = _scores(options, random, inputs, options.labels)
    labels: NDArray[Any] = scores > np.quantile(scores, 1 - options.share, axis=0)
    return labels.astype(np.float64)


def draw_ranks(
    options: RanksOptions, random: np.random.RandomState, inputs: NDArray[Any]
) -> NDArray[Any]:
    """Returns class numbers [N], of classes of equal size."""
    import numpy as np

    scores = _scores(options, random, inputs, 1)[:, 0]
    borders = np.quantile(scores, np.arange(1, options.classes) / options.classes)
    return np.searchsorted(borders, scores)


def draw_counts(
    options: CountsOptions, random: np.random.RandomState, inputs: NDArray[Any]
) -> NDArray[Any]:
    """Returns counts [N, T] of Poisson's distribution, whose expectation has noise."""
    import numpy as np

    scores = _scores(options, random, inputs, len(options.slopes))
    expected = options.mean * np.exp(np.array(options.slopes) * scores)
    counts: NDArray[Any] = random.poisson(np.minimum(expected, 1e6))
    return counts.astype(np.float64)


def _scores(
    options: GeneratedOptions, random: np.random.RandomState, inputs: NDArray[Any], n: int
) -> NDArray[Any]:
    """Returns n linear functions of the inputs with noise, [N, n]."""
    import numpy as np

    weights = random.standard_normal((options.features, n))
    weights /= np.sqrt((weights**2).sum(axis=0))
    noise = random.standard_normal((len(inputs), n))
    scores: NDArray[Any] = inputs @ weights + options.noise * noise
    return scores


def generated(describe: Callable[[Any], DataInfo], draw: Draw, name: str, **fields: Any) -> Dataset:
    """Returns a data set that is drawn. describe: what is known of it, without its size."""

    def info(options: GeneratedOptions, root: Path) -> DataInfo:
        size = training_size(options.split_rule(), {"": options.examples})
        return replace(describe(options), examples=size)

    def fingerprint(options: GeneratedOptions, root: Path) -> str:
        return hashlib.sha256(f"{name} {options.model_dump_json()}".encode()).hexdigest()

    def load(options: GeneratedOptions, root: Path) -> RawData:
        import numpy as np

        random = np.random.RandomState(options.draw_seed)
        inputs = random.standard_normal((options.examples, options.features))
        targets = draw(options, random, inputs)
        data_info = info(options, root)
        examples = table_examples(data_info, inputs, targets)
        return RawData(data_info, examples, split=options.split_rule())

    return Dataset(
        name=name, info=info, fingerprint=fingerprint, load=load, imports=SPLITTING, **fields
    )


def _names(word: str, n: int) -> tuple[str, ...]:
    return tuple(f"{word}_{number + 1}" for number in range(n))


SMALL = {"examples": 60, "features": 4}

COMPONENTS = (
    generated(
        lambda o: DataInfo(
            Task.MULTILABEL, (o.features,), _names("label", o.labels), targets=o.labels
        ),
        draw_labels,
        name="generated_labels",
        description="a drawn table for multi-label classification",
        reference="as scikit-learn's make_multilabel_classification, with linear labels",
        options=LabelsOptions,
        tiny=(SMALL, {**SMALL, "labels": 1}),
    ),
    generated(
        lambda o: DataInfo(Task.ORDINAL, (o.features,), _names("rank", o.classes)),
        draw_ranks,
        name="generated_ranks",
        description="a drawn table of ordered classes",
        reference="McCullagh, Journal of the Royal Statistical Society B 42 (1980)",
        options=RanksOptions,
        tiny=(SMALL, {**SMALL, "classes": 2, "split_seed": None}),
    ),
    generated(
        lambda o: DataInfo(Task.COUNT, (o.features,), targets=len(o.slopes)),
        draw_counts,
        name="generated_counts",
        description="a drawn table of counts",
        reference="McCullagh and Nelder, Generalized Linear Models (1989), chapter 6",
        options=CountsOptions,
        tiny=(SMALL, {**SMALL, "slopes": [0.5, -0.2]}),
    ),
)
