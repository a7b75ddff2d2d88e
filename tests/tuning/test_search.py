"""The command from end to end: budgets, and what Optuna and MLflow store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from harness import compare, search, sweep
from harness.store import names
from harness.store.store import Store, open_store
from harness.tuning.study_plan import fresh_seeds
from tests.tuning.tuning_support import FILE, counted, plans, run, stored, write

quick = pytest.mark.usefixtures("no_figures")


def runs(kind: str = names.TRIAL) -> list[Any]:
    store: Store = open_store()
    found = store.client.search_runs([store.experiment("small")], max_results=1000)
    return [run for run in found if run.data.tags.get(names.TAG_KIND) == kind]


@quick
def test_every_study_gets_its_budget_and_every_trial_its_run(project: Path) -> None:
    path = write(project)
    assert run(path) == 0
    studies = stored(project)
    assert list(studies) == ["sgd", "momentum"]
    for study in studies.values():
        assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4
        assert study.trials[0].params["lr"] == 0.01, "the known default is asked first"
    assert set(studies["sgd"].trials[1].params) == {"lr"}
    assert set(studies["momentum"].trials[1].params) == {"lr", "optimizer.momentum"}
    children = runs()
    tuned = [r for r in children if f"{names.TAG_SEARCH_PREFIX}number" in r.data.tags]
    assert len(tuned) == 8
    assert len(children) - len(tuned) == 2 * 2 * 2, "tuned and default of each on two seeds"
    for child in tuned:
        label = child.data.tags[f"{names.TAG_SEARCH_PREFIX}study"]
        trial = studies[label].trials[int(child.data.tags[f"{names.TAG_SEARCH_PREFIX}number"])]
        assert trial.user_attrs["trial_ids"] == [child.data.params["trial_id"]]
        assert trial.value == child.data.metrics["best/val/accuracy"]
    keys = {frozenset(child.data.params) for child in children}
    assert len(keys) == 1, "the same params on every run"
    fresh = {r.data.params["seed"] for r in children if r not in tuned}
    assert len(fresh) == 2
    assert "0" not in fresh, "winners train on seeds that did not choose them"


@pytest.mark.slow
def test_a_study_stores_its_figures_with_its_parent_run(project: Path) -> None:
    assert run(write(project)) == 0
    store = open_store()
    momentum = next(r for r in runs(names.STUDY) if "momentum" in r.info.run_name)
    assert momentum.info.status == "FINISHED"
    files = {f.path for f in store.client.list_artifacts(momentum.info.run_id, "study")}
    assert files == {
        "study/study.html",
        *(
            f"study/{name}.png"
            for name in (
                "optimization_history",
                "param_importances",
                "parallel_coordinate",
                "slice",
                "contour",
            )
        ),
    }
    page = Path(store.client.download_artifacts(momentum.info.run_id, "study/study.html"))
    content = page.read_text()
    assert content.count("Plotly.newPlot") >= 5
    assert 'src="http' not in content
    assert "cdn.plot.ly" not in content.partition("<body>")[0]


@pytest.mark.slow
@quick
def test_one_worker_is_reproducible_to_the_last_digit(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def values(folder: Path) -> dict[str, list[Any]]:
        return {
            label: [(t.params, t.value) for t in study.trials]
            for label, study in stored(folder).items()
        }

    assert run(write(project)) == 0
    again = tmp_path_factory.mktemp("again")
    (again / "mlruns").mkdir()
    (again / "experiments").mkdir()
    monkeypatch.chdir(again)
    assert run(write(again)) == 0
    assert values(project) == values(again)


@pytest.mark.slow
@quick
def test_with_two_workers_the_budget_is_exact(project: Path) -> None:
    assert run(write(project), "--workers", "2") == 0
    assert {label: len(study.trials) for label, study in stored(project).items()} == {
        "sgd": 4,
        "momentum": 4,
    }


@quick
def test_a_larger_budget_continues_where_the_smaller_one_ended(project: Path) -> None:
    path = write(project)
    assert run(path) == 0
    before = {label: [t.params for t in study.trials] for label, study in stored(project).items()}
    assert run(path) == 0, "nothing is left to do"
    assert {k: [t.params for t in s.trials] for k, s in stored(project).items()} == before
    assert run(path, "search.trials=6") == 0
    for label, study in stored(project).items():
        assert [t.params for t in study.trials][:4] == before[label]
        assert len(study.trials) == 6


@quick
def test_neither_a_search_nor_a_sweep_trains_again_what_the_other_has_trained(
    project: Path,
) -> None:
    path = write(project)
    swept = ["optimizer=[sgd,momentum]", "lr=[0.01,0.1]"]
    assert sweep.main([str(path), "--no-compare", "--workers", "1", *swept]) == 0
    before = {child.info.run_id: child.data.params["trial_id"] for child in runs()}
    known = FILE + "  known: [{lr: 0.01}, {lr: 0.1}]\n"
    assert run(write(project, known), "search.retrain_seeds=0") == 0
    known_points = stored(project)["sgd"].trials[:2]
    assert [t.params["lr"] for t in known_points] == [0.01, 0.1]
    ids = [child.data.params["trial_id"] for child in runs()]
    assert len(ids) == len(set(ids)), "no trial is trained twice"
    assert set(before) <= {child.info.run_id for child in runs()}
    assert known_points[0].user_attrs["trial_ids"][0] in before.values()
    lr = stored(project)["sgd"].trials[2].params["lr"]
    count = len(ids)
    assert (
        sweep.main([str(path), "--no-compare", "--workers", "1", "optimizer=sgd", f"lr={lr!r}"])
        == 0
    )
    assert len(runs()) == count


@quick
def test_a_pruned_trial_is_stored_as_such_and_frees_its_slot(project: Path) -> None:
    content = FILE.replace("epochs: 2", "epochs: 6").replace("trials: 4", "trials: 8")
    content += "  pruner: {name: median, n_startup_trials: 2}\n"
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    pruned = [
        trial
        for study in stored(project).values()
        for trial in counted(study)
        if trial.state is TrialState.PRUNED
    ]
    assert pruned, "the space reaches rates far below and above the good ones"
    cut = [r for r in runs() if names.TAG_PRUNED_AT in r.data.tags]
    assert {r.data.params["trial_id"] for r in cut} == {
        trial.user_attrs["trial_ids"][0] for trial in pruned
    }
    for child in cut:
        epoch = int(child.data.tags[names.TAG_PRUNED_AT])
        assert 1 <= epoch < 6
        assert child.data.tags[names.TAG_OUTCOME] == "interrupted"
        assert child.data.tags[names.TAG_REASON] == f"pruned after epoch {epoch} by median"
        assert child.info.status == "KILLED"
    count = len(runs())
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    assert len(runs()) == count, "a pruned trial is not run again"


@quick
def test_a_diverged_trial_ranks_worst_and_no_value_is_invented(project: Path) -> None:
    content = FILE.replace("dataset: iris, model: {name: mlp, hidden: [4]}", DIVERGING)
    content = content.replace("high: 1,", "high: 1e12,") + "  known: [{lr: 1e12}]\n"
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    first = stored(project)["sgd"].trials[0]
    assert first.state is TrialState.PRUNED
    assert first.value is None
    assert first.user_attrs["outcome"] == "diverged"


@quick
def test_a_search_that_measured_nothing_ends_with_a_report(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = FILE.replace("dataset: iris, model: {name: mlp, hidden: [4]}, lr: 0.01", DIVERGING)
    content = content.replace("low: 1e-3, high: 1,", "low: 1e11, high: 1e12,")
    path = write(project, content.replace("val_fraction", "lr: 1e12, val_fraction"))
    assert search.main([str(path), "--workers", "1", "search.trials=2"]) == 0
    out = capsys.readouterr().out
    assert out.count("2 diverged; no point has a value of val/r2") == 2
    assert "Tuned against default" in out
    for asked in ("small", str(path)):
        assert compare.main([asked]) == 0


DIVERGING = "dataset: diabetes, model: {name: mlp, hidden: [4]}"


@quick
def test_several_seeds_are_averaged(project: Path) -> None:
    content = FILE.replace("grid: {", "grid: {seed: [1, 2], ").replace("trials: 4", "trials: 2")
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    children = {r.data.params["trial_id"]: r for r in runs()}
    for study in stored(project).values():
        for trial in study.trials:
            ids = trial.user_attrs["trial_ids"]
            assert [children[i].data.params["seed"] for i in ids] == ["1", "2"]
            values = [children[i].data.metrics["best/val/accuracy"] for i in ids]
            assert trial.value == pytest.approx(sum(values) / 2)


@quick
def test_several_objectives_have_a_front(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = FILE.replace(
        "  space:\n", "  also: [parameters]\n  space:\n    model.hidden: [[2], [8]]\n"
    )
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    for study in stored(project).values():
        assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
        sizes = {
            json.dumps(t.params["model.hidden"]): t.values[1]
            for t in study.trials
            if t.state is TrialState.COMPLETE
        }
        assert set(sizes.values()) <= {
            4 * 2 + 2 + 2 * 3 + 3,
            4 * 8 + 8 + 8 * 3 + 3,
            4 * 4 + 4 + 4 * 3 + 3,
        }
    assert "Pareto front" in capsys.readouterr().out


@quick
def test_a_study_ends_when_nothing_improves(project: Path) -> None:
    content = FILE.replace("trials: 4", "trials: 50\n  patience: 3")
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    for study in stored(project).values():
        values = [t.values[0] for t in study.trials]
        best = values.index(max(values))
        assert len(values) - 1 - best == 3


@quick
def test_a_time_budget_ends_a_study(project: Path) -> None:
    content = FILE.replace("trials: 4", "minutes: 0.0001")
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    for study in stored(project).values():
        seconds = [t.user_attrs["seconds"] for t in study.trials]
        assert sum(seconds) >= 0.006
        assert sum(seconds[:-1]) < 0.006


@pytest.mark.parametrize(
    "sampler",
    [
        "random",
        "qmc",
        "{name: qmc, sequence: sobol}",
        "gp",
        "cmaes",
        "{name: nsga2, population_size: 2}",
    ],
)
@quick
def test_every_sampler_fills_its_budget(project: Path, sampler: str) -> None:
    content = FILE.replace("{name: tpe, n_startup_trials: 2}", sampler).replace(
        "[sgd, momentum]", "[momentum]"
    )
    content = content.replace("epochs: 2", "epochs: 1")
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    points = [tuple(sorted(t.params.items())) for t in stored(project)["momentum"].trials]
    assert len(points) == 4
    assert len(set(points)) == 4 or "nsga2" in sampler, "a generation may repeat a parent"


@quick
def test_the_grid_sampler_visits_each_point_once(project: Path) -> None:
    content = FILE.replace("{name: tpe, n_startup_trials: 2}", "grid")
    content = content.replace("{low: 1e-3, high: 1, log: true}", "[0.1, 0.2]")
    content = content.replace("{low: 0.5, high: 0.9}", "{low: 0.5, high: 0.9, step: 0.4}")
    content = content.replace("[sgd, momentum]", "[momentum]")
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    points = [tuple(t.params.values()) for t in stored(project)["momentum"].trials]
    assert sorted(points) == [(0.5, 0.1), (0.5, 0.2), (0.9, 0.1), (0.9, 0.2)]


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
@quick
def test_other_pruners_run(project: Path, pruner: str) -> None:
    content = FILE.replace("epochs: 2", "epochs: 4") + f"  pruner: {pruner}\n"
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    assert all(len(study.trials) == 4 for study in stored(project).values())


@pytest.mark.slow
@quick
def test_wilcoxon_compares_seeds(project: Path) -> None:
    content = FILE.replace("grid: {", "grid: {seed: [1, 2, 3, 4, 5, 6], ")
    content = content.replace("[sgd, momentum]", "[sgd]").replace("epochs: 2", "epochs: 8")
    content = content.replace("    optimizer.momentum: {low: 0.5, high: 0.9}\n", "")
    content = content.replace("low: 1e-3", "low: 1e-5")
    content += "  known: [{lr: 0.5}, {lr: 1e-5}]\n  pruner: wilcoxon\n"
    assert run(write(project, content), "search.retrain_seeds=0") == 0
    trials = stored(project)["sgd"].trials
    assert trials[1].state is TrialState.PRUNED
    assert max(trials[1].intermediate_values) in (4, 5), "never before four pairs"


@quick
def test_a_file_without_a_search_block_is_rejected(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write(project, FILE.partition("search:")[0])) == 2
    assert "the file has no `search:` block" in capsys.readouterr().err


@quick
def test_a_dry_run_lists_studies_and_runs_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write(project), "--dry-run") == 0
    out = capsys.readouterr().out
    assert "study momentum" in out
    assert "optimizer.momentum: 0.5 … 0.9" in out
    assert [path.name for path in (project / "mlruns").iterdir()] == ["mlflow.db"]


@pytest.mark.slow
@quick
def test_a_database_holds_the_studies_where_one_is_named(project: Path) -> None:
    url = f"sqlite:///{project}/studies.db"
    assert run(write(project), "search.retrain_seeds=0", "--storage", url) == 0
    import optuna

    names = optuna.get_all_study_names(url)
    assert len(names) == 2
    assert len(optuna.load_study(study_name=names[0], storage=url).trials) == 4
    assert not (project / "mlruns" / "studies").exists()


@quick
def test_points_and_tuned_trials_train_as_stacks(project: Path) -> None:
    assert run(write(project), "--fuse", "5") == 0
    assert {label: len(study.trials) for label, study in stored(project).items()} == {
        "sgd": 4,
        "momentum": 4,
    }
    tuned = [r for r in runs() if names.TAG_POINT_NUMBER in r.data.tags]
    again = [r for r in runs() if names.TAG_POINT_NUMBER not in r.data.tags]
    assert sorted(r.data.tags[names.TAG_STACK_SIZE] for r in tuned) == ["3"] * 3 + ["5"] * 5
    assert again
    assert all(names.TAG_STACK_SIZE in r.data.tags for r in again)


@quick
def test_time_is_no_objective_of_a_stack(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = FILE + "  also: [time/train_s]\n"
    assert run(write(project, content), "--fuse", "4") == 2
    assert "share its clock" in capsys.readouterr().err
    assert not runs_there(project)


def runs_there(project: Path) -> bool:
    """Whether any study was started."""
    return (project / "mlruns" / "studies").exists()


@quick
def test_the_comparison_is_of_tuned_trials_and_defaults(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(project)
    assert search.main([str(path), "--workers", "1"]) == 0
    assert "Tuned against default" in capsys.readouterr().out
    again = [r for r in runs() if names.TAG_POINT_NUMBER not in r.data.tags]
    roles = {r.data.tags[names.TAG_ROLE] for r in again}
    assert roles <= {names.TUNED, names.DEFAULT, names.BOTH}
    for asked in ("small", str(path)):
        assert compare.main([asked, "--format", "json"]) == 0
        (report,) = json.loads(capsys.readouterr().out)["experiments"]
        assert report["overview"]["trials"] == len(again)
        assert report["overview"]["tried"] == report["budget"]["tried"] == 8
        assert [study["study"] for study in report["gains"]["studies"]] == ["sgd", "momentum"]
        assert {gain["n"] for study in report["gains"]["studies"] for gain in study["gains"]} == {2}


@quick
def test_a_sweeps_runs_of_a_default_are_reused_and_tagged(project: Path) -> None:
    path = write(project)
    seeds = fresh_seeds(plans(path, project)[0].search)
    swept = ["optimizer=[sgd]", "lr=[0.01]", f"seed={seeds}"]
    assert sweep.main([str(path), "--no-compare", "--workers", "1", *swept]) == 0
    assert run(path) == 0
    asked = [
        r
        for r in runs()
        if (r.data.params["optimizer"], r.data.params["lr"]) == ("sgd", "0.01")
        and int(r.data.params["seed"]) in seeds
    ]
    assert len(asked) == 2, "no trial is trained twice"
    roles = {r.data.tags[names.TAG_ROLE] for r in asked}
    assert roles <= {names.DEFAULT, names.BOTH}
