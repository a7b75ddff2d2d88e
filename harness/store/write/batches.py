"""Cuts what is to be logged into calls that MLflow accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, RunTag

ENTITIES = 1000
"""The most metrics, params and tags together in one `log_batch` call."""
PARAMS = 100
TAGS = 100


@dataclass(frozen=True, slots=True)
class Batch:
    """The arguments of one `log_batch` call."""

    metrics: list[Metric]
    params: list[Param]
    tags: list[RunTag]


def batches(
    metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
) -> Iterator[Batch]:
    """As few calls as the limits allow. Tags come last, so that a tag which says that a run is
    over is written after everything else of the run."""
    metric, param, tag = iter(metrics), iter(params), iter(tags)
    waiting = len(metrics) + len(params) + len(tags)
    while waiting:
        some_params = list(islice(param, PARAMS))
        some_metrics = list(islice(metric, ENTITIES - len(some_params)))
        room = ENTITIES - len(some_params) - len(some_metrics)
        waiting -= len(some_params) + len(some_metrics)
        only_tags_wait = waiting <= len(tags)
        some_tags = list(islice(tag, min(TAGS, room))) if only_tags_wait else []
        waiting -= len(some_tags)
        yield Batch(some_metrics, some_params, some_tags)
