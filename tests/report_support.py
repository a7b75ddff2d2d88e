"""Results with content for every section, without a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.comparison import Question
from harness.core.metrics import EPOCHS_TO_TARGET, TRAIN_SECONDS
from harness.report.section import Report, build_report, choose_sections, sections
from harness.store.names import (
    BOTH,
    DEFAULT,
    TAG_DEVICE,
    TAG_EXCLUSIVE,
    TAG_POINT_NUMBER,
    TAG_REASON,
    TAG_ROLE,
    TAG_STUDY,
    TAG_TARGET,
    TUNED,
)
from harness.store.read.results import Results
from harness.store.read.runs import StoredRun
from tests.stored import results, seeds, trial_run

SCRIPT = "<script>alert(1)</script>"
FORMULA = "=cmd()"


def fruitless_search(**outcome: Any) -> list[StoredRun]:
    """A search without a score: points, winners and defaults of two studies."""
    search = [
        {TAG_POINT_NUMBER: "0"},
        {TAG_POINT_NUMBER: "1"},
        {TAG_ROLE: TUNED},
        {TAG_ROLE: DEFAULT},
        {TAG_ROLE: BOTH},
    ]
    return [
        trial_run(
            None,
            seed=seed,
            lr=10.0**place,
            optimizer=study,
            tags={TAG_STUDY: study, **tags},
            metrics={TRAIN_SECONDS: 1.0},
            **outcome,
        )
        for study in ("sgd", "adam")
        for place, tags in enumerate(search)
        for seed in range(2)
    ]


POOR: dict[str, list[StoredRun]] = {
    "nothing done": [trial_run(outcome="failed", status="FAILED"), trial_run(outcome=None, seed=1)],
    "all diverged": seeds([None, None]),
    "one seed": [trial_run(0.9, lr=0.1), trial_run(0.8, lr=0.2)],
    "one trial": [trial_run(0.9)],
    "ties": [*seeds([0.9, 0.8], lr=0.1), *seeds([0.8, 0.9], lr=0.2)],
    "no variance": [*seeds([0.9, 0.9], lr=0.1), *seeds([0.8, 0.8], lr=0.2)],
    "missing seeds": [*seeds([0.9, 0.8, 0.7], lr=0.1), *seeds([0.9], lr=0.2)],
    "hostile names": [
        trial_run(0.9, name=SCRIPT),
        trial_run(
            outcome="failed",
            status="FAILED",
            seed=1,
            name=FORMULA,
            tags={TAG_REASON: f"[bold]\x1b[31m |{SCRIPT}\n\n# `x` [a](javascript:b)"},
        ),
    ],
    "no metric": [trial_run(None), trial_run(None, lr=0.2)],
    "a search that diverged": fruitless_search(outcome="diverged"),
    "a search that failed": fruitless_search(outcome="failed", status="FAILED"),
    "a search without its metric": fruitless_search(),
    "a search's points alone": fruitless_search(outcome="diverged")[:4],
    "two devices without a metric": [
        trial_run(None, metrics={TRAIN_SECONDS: 1.0}, tags={TAG_DEVICE: device}, device=device)
        for device in ("cpu", "cuda")
    ],
}


@dataclass
class StubRunDetails:
    """A stub of `store.read.run_details.RunDetails` with the same curve for every run.

    requests: the run ids of each request for histories.
    """

    tracebacks: dict[str, str] = field(default_factory=dict)
    requests: list[list[str]] = field(default_factory=list)
    parent: dict[str, Any] = field(default_factory=lambda: {"python": "3.11", "packages": {}})

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        self.requests.append(list(run_ids))
        rows = [
            (run, metric, step, 0.1 + 0.2 * step)
            for run in run_ids
            for metric in metrics
            for step in range(5)
        ]
        return pd.DataFrame(rows, columns=["run_id", "metric", "step", "value"])

    def text(self, run_id: str, name: str) -> str | None:
        return self.tracebacks.get(run_id)

    def provenance(self) -> dict[str, Any]:
        return self.parent


def tournament_runs(
    seeds: int = 5, optimizers: Sequence[str] = ("sgd", "momentum", "adam"), exclusive: bool = True
) -> list[StoredRun]:
    """Three data sets, two nets, three optimizers, four learning rates, two schedulers. adam leads
    everywhere; the highest learning rate of sgd diverges."""
    runs = []
    chance = np.random.default_rng(0)
    grid = [
        (dataset, hidden, optimizer, lr, scheduler, seed)
        for dataset in ("digits", "wine", "breast_cancer")
        for hidden in ([16], [32, 32])
        for optimizer in optimizers
        for lr in (0.001, 0.01, 0.1, 1.0)
        for scheduler in ("constant", "cosine")
        for seed in range(seeds)
    ]
    for dataset, hidden, optimizer, lr, scheduler, seed in grid:
        place = optimizers.index(optimizer)
        diverged = optimizer == "sgd" and lr == 1.0
        score = 0.9 + 0.03 * place - 0.1 * abs(np.log10(lr) + 2) + chance.normal(0, 0.004)
        metrics = {TRAIN_SECONDS: 1.0 + place, "time/eval_s": 0.1, "best/epoch": 3.0}
        metrics |= {"examples_per_s": 1e4, "memory/peak_mib": 100.0 + place}
        if score > 0.85:
            metrics[EPOCHS_TO_TARGET] = 4.0 - place
        runs.append(
            trial_run(
                None if diverged else float(score),
                test=None if diverged else float(score) - 0.01,
                outcome="diverged" if diverged else "done",
                metrics={} if diverged else metrics,
                tags={
                    TAG_TARGET: "0.85",
                    TAG_EXCLUSIVE: "true" if exclusive else "false",
                    TAG_DEVICE: "cpu",
                    "harness.device_name": "a processor",
                },
                dataset=dataset,
                model={"name": "mlp", "hidden": hidden},
                optimizer=optimizer,
                lr=lr,
                scheduler=scheduler,
                seed=seed,
            )
        )
    return runs


def with_run_details(table: Results, details: StubRunDetails | None = None) -> Results:
    return replace(table, target=0.85, details=details or StubRunDetails())


def whole_report(table: Results, question: Any = None) -> Report:
    return build_report(table, question, sections())


def section_record(table: Results, name: str, **question: Any) -> Any:
    """The record of one section alone."""
    report = build_report(table, Question(**question), choose_sections([name]))
    return report.record(name)


@cache
def full_grid() -> Results:
    return with_run_details(results(*tournament_runs()))
