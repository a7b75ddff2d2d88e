"""What was trained on different bytes is never averaged, ranked, paired or counted together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.comparison import Comparison, Question, compare
from harness.analysis.tournament import make_tournament
from harness.analysis.trials import join
from harness.report.sections import gains
from harness.store.names import (
    DEFAULT,
    TAG_POINT_NUMBER,
    TAG_ROLE,
    TAG_STUDY,
    TUNED,
    short_checksum,
)
from harness.store.read.runs import StoredRun
from tests.stored import results, seeds, trial_run

OLD, NEW = "a1" * 32, "b2" * 32


def csv(path: str = "table.csv", **options: Any) -> dict[str, Any]:
    return {"name": "csv", "path": path, "target": "y", **options}


def csv_run(score: float | None, data: str, path: str = "table.csv", **fields: Any) -> StoredRun:
    return trial_run(score, data=data, dataset=csv(path), **fields)


def both_versions(**fields: Any) -> list[StoredRun]:
    """Three seeds on the old data, and then three on the new."""
    return [
        csv_run(score, data, seed=seed, started=started, lr=lr, optimizer=optimizer, **fields)
        for started, (data, best) in enumerate(((OLD, 0.9), (NEW, 0.6)))
        for optimizer, less in (("sgd", 0.0), ("adam", 0.1))
        for lr in (0.1, 0.01)
        for seed, score in enumerate((best - less, best - less - 0.01, best - less + lr / 10))
    ]


def test_two_versions_of_a_file_are_two_tasks() -> None:
    found = compare(results(*both_versions()), Question())

    assert found.tasks == ("csv @ a1a1a1a1", "csv @ b2b2b2b2")
    assert sorted(c.rank or 0 for c in found.configs) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert {config.n for config in found.configs} == {3}
    assert "dataset" not in found.shown
    tournament = make_tournament(found)
    assert tournament is not None
    assert set(tournament.tasks) == set(found.tasks)


def test_one_version_needs_no_name() -> None:
    found = compare(results(*[csv_run(0.9, NEW, seed=seed) for seed in (0, 1)]), Question())

    assert found.configs[0].labels["dataset"] == "csv"
    assert found.versions == ()


def test_two_files_of_the_same_bytes_are_one_task() -> None:
    """In two stores, as a trial of one store has one run that counts."""
    first = results(*[csv_run(0.8, NEW, "here.csv", seed=s, started=1) for s in (0, 1)])
    second = results(*[csv_run(0.9, NEW, "there/moved.csv", seed=s, started=2) for s in (0, 1)])

    found = compare(join([first, second], ["a", "b"]), Question(by=("experiment",)))

    assert found.tasks == ("",)
    assert {config.labels["dataset"] for config in found.configs} == {"csv"}
    assert [config.rank for config in found.configs] == [1, 2]


def test_joined_experiments_on_other_data_do_not_compete() -> None:
    first = results(*[csv_run(0.8, OLD, seed=s) for s in (0, 1)])
    second = results(*[csv_run(0.9, NEW, seed=s) for s in (0, 1)])

    found = compare(join([first, second], ["a", "b"]), Question(by=("experiment",)))

    assert len(found.tasks) == 2
    assert [config.rank for config in found.configs] == [1, 1]
    tournament = make_tournament(found)
    assert tournament is not None
    assert tournament.complete_tasks() == ()


def test_another_path_with_other_bytes_is_told_by_its_path() -> None:
    found = compare(results(csv_run(0.8, OLD, "old.csv"), csv_run(0.9, NEW, "new.csv")), Question())

    assert set(found.tasks) == {"csv(path=old.csv)", "csv(path=new.csv)"}


def test_the_version_stands_behind_the_options() -> None:
    runs = [
        trial_run(0.5, data=data, dataset=csv(test_fraction=fraction))
        for data in (OLD, NEW)
        for fraction in (0.2, 0.3)
    ]
    found = compare(results(*runs), Question())

    assert "csv(test_fraction=0.2) @ a1a1a1a1" in found.tasks
    assert len(found.tasks) == 4


def test_checksums_that_begin_alike_are_shown_whole() -> None:
    alike = ["c" * 31 + "1", "c" * 31 + "2"]

    found = compare(results(*[csv_run(0.5, data) for data in alike]), Question())

    assert set(found.tasks) == {f"csv @ {data}" for data in alike}


def test_runs_without_a_checksum_are_a_version_of_their_own() -> None:
    found = compare(results(csv_run(0.9, ""), csv_run(0.5, NEW, started=1)), Question())

    assert set(found.tasks) == {"csv @ unknown", "csv @ b2b2b2b2"}
    assert [(v.version, v.current) for v in found.versions] == [
        ("unknown", False),
        ("b2b2b2b2", True),
    ]


def test_a_run_without_a_checksum_has_that_of_its_config() -> None:
    """A process that died before it named its data; the config's id is a hash of them."""
    runs = [csv_run(0.9, NEW, seed=0), replace(csv_run(None, NEW, seed=1, outcome=None), data="")]

    found = compare(results(*runs), Question())

    assert len(found.configs) == 1
    assert found.versions == ()


def test_one_config_with_two_checksums_is_two_configs() -> None:
    """Earlier releases stored what they found under the planned id."""
    runs = [csv_run(0.9, OLD, seed=0), replace(csv_run(0.1, OLD, seed=1), data=short_checksum(NEW))]

    found = compare(results(*runs), Question())

    assert sorted(config.mean or 0 for config in found.configs) == [0.1, 0.9]
    assert len(found.tasks) == 2


def test_the_current_version_is_that_of_the_newest_runs_or_of_the_file() -> None:
    table = results(*both_versions())

    by_name = compare(table, Question())
    by_file = compare(table, Question(data={"a trial": short_checksum(OLD)}))
    neither = compare(table, Question(data={"a trial": "f" * 32}))

    def current(found: Comparison) -> list[str]:
        return [version.version for version in found.versions if version.current]

    assert [version.trials for version in by_name.versions] == [12, 12]
    assert current(by_name) == ["b2b2b2b2"]
    assert current(by_file) == ["a1a1a1a1"]
    assert current(neither) == []


@pytest.mark.parametrize(("data", "finding"), [(OLD, "reproduced"), (NEW, "off")])
def test_a_published_figure_is_checked_on_the_current_data(data: str, finding: str) -> None:
    figure = {"metric": "best/val/accuracy", "value": 0.9, "tolerance": 0.01, "where": {}}
    figure["source"] = "a paper"
    runs = [csv_run(0.9, OLD, started=0), csv_run(0.5, NEW, started=1)]
    of_file = {"a trial": short_checksum(data)}

    found = compare(results(*runs), Question(expect=[figure], data=of_file))
    assert [checked.finding for checked in found.expectations] == [finding]
    assert found.expectations[0].candidates == 1

    newest = compare(results(*runs), Question(expect=[figure]))
    assert [checked.finding for checked in newest.expectations] == ["off"]


def test_pretrained_weights_are_versions_of_the_model() -> None:
    model = {"name": "torchvision", "arch": "resnet18", "weights": "mine/net.pth"}
    fields: dict[str, Any] = {"model": model, "dataset": {"name": "image_folder"}, "data": NEW}
    runs = [
        trial_run(score, weights=weights, seed=seed, started=started, **fields)
        for started, (weights, score) in enumerate(((OLD, 0.9), (NEW, 0.5)))
        for seed in (0, 1)
    ]

    found = compare(results(*runs), Question())

    assert [config.n for config in found.configs] == [2, 2]
    assert {config.labels["model"] for config in found.configs} == {
        "torchvision @ a1a1a1a1",
        "torchvision @ b2b2b2b2",
    }
    assert [(v.field, v.current) for v in found.versions] == [("model", False), ("model", True)]


def test_a_searchs_points_and_pairs_keep_versions_apart() -> None:
    points = both_versions(tags={TAG_POINT_NUMBER: "1", TAG_STUDY: "sgd"})
    retrained = [
        csv_run(0.7, data, seed=seed, lr=0.3, started=9, tags={TAG_STUDY: "sgd", TAG_ROLE: TUNED})
        for data in (OLD, NEW)
        for seed in (7, 8)
    ]

    found = compare(results(*points, *retrained), Question())

    assert len(found.tasks) == 2
    assert found.tuning is not None
    assert set(found.tuning.tasks) == set(found.tasks)
    assert {config.n for config in found.tuning.configs} == {3}


def test_a_tuned_config_is_paired_with_the_default_of_its_own_data() -> None:
    """Seeds, studies and rates are the same on both versions: only the data differ."""
    runs = [
        csv_run(
            score, data, seed=seed, lr=lr, started=place, tags={TAG_STUDY: "sgd", TAG_ROLE: role}
        )
        for place, (data, shift) in enumerate(((OLD, 0.5), (NEW, 0.0)))
        for role, lr, score in ((TUNED, 0.3, 0.3 + shift), (DEFAULT, 0.1, 0.2 + shift))
        for seed in (7, 8)
    ]

    found = gains.record(compare(results(*runs), Question()))

    assert found is not None
    assert [study.task for study in found.studies] == ["csv @ a1a1a1a1", "csv @ b2b2b2b2"]
    by_study = [(g.n, g.default, g.tuned) for study in found.studies for g in study.gains]
    assert by_study == [
        (2, pytest.approx(0.7), pytest.approx(0.8)),
        (2, pytest.approx(0.2), pytest.approx(0.3)),
    ]


RUNS = st.lists(
    st.tuples(
        st.sampled_from([(OLD, "a.csv"), (OLD, "b.csv"), (NEW, "a.csv"), ("", "a.csv")]),
        st.sampled_from([0.1, 0.01]),
        st.integers(0, 2),
        st.sampled_from([0.25, 0.5, 0.75]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=20)
@given(RUNS)
def test_means_and_ranks_are_of_one_version(
    drawn: Sequence[tuple[tuple[str, str], float, int, float]],
) -> None:
    """Against a plain count: the last run of a trial counts, whatever its path."""
    runs = [
        csv_run(score, data, path, lr=lr, seed=seed, started=place)
        for place, ((data, path), lr, seed, score) in enumerate(drawn)
    ]
    latest = {(data, lr, seed): score for (data, _), lr, seed, score in drawn}
    scores: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (data, lr, _), score in latest.items():
        scores[data][lr].append(score)
    expected = {
        short_checksum(data): sorted(sum(of) / len(of) for of in by_lr.values())
        for data, by_lr in scores.items()
    }

    found = compare(results(*runs), Question())

    assert len(found.tasks) == len(expected)
    for task in found.tasks:
        configs = [config for config in found.configs if config.task == task]
        of_task = found.trials[found.trials["config_id"].isin([c.config_id for c in configs])]
        (data,) = set(of_task["data"])
        assert sorted(config.mean or 0 for config in configs) == pytest.approx(expected[data])
        assert min(config.rank or 0 for config in configs) == 1


def test_seeds_of_stored_runs_have_no_version_by_default() -> None:
    found = compare(results(*seeds([0.9, 0.8])), Question())

    assert found.versions == ()
    assert found.tasks == ("",)
