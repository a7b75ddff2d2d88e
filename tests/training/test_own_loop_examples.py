"""The training loops that docs/your-own-code.md shows: each is quoted as it is, and runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.records import Ended, Measured, Outcome, Record
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import make_task
from harness.execution.run_task import run
from harness.experiment.loading import load
from harness.experiment.plan import PlannedTrial, make_plan

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "experiments" / "own"
FILES = sorted(EXAMPLES.glob("*.py")) + sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_page_quotes_it(path: Path) -> None:
    page = (ROOT / "docs" / "your-own-code.md").read_text()
    language = "python" if path.suffix == ".py" else "yaml"
    assert f"```{language}\n{path.read_text()}```" in page


def trials_of(name: str, *overrides: str) -> tuple[str, tuple[PlannedTrial, ...]]:
    experiment = load(EXAMPLES / f"{name}.yaml", overrides)
    return experiment.metric, make_plan(experiment).trials


def train(
    metric: str, planned: PlannedTrial, checkpoints: ExperimentCheckpoints | None = None
) -> list[Record]:
    return list(run(make_task(Path(), False, checkpoints, None, [planned], metric=metric)))


def metrics_of(records: list[Record], metric: str) -> list[float]:
    ended = records[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.DONE, ended.reason
    return [record.values[metric] for record in records if isinstance(record, Measured)]


def interrupted(metric: str, planned: PlannedTrial, folder: Path) -> list[float]:
    """The metrics of a trial that is killed after its second epoch, and goes on."""
    checkpoints = ExperimentCheckpoints(folder)
    for record in run(make_task(Path(), False, checkpoints, None, [planned])):
        if isinstance(record, Measured) and record.epoch == 2:
            break
    return metrics_of(train(metric, planned, checkpoints), metric)


def test_reinforce_learns_its_way() -> None:
    metric, trials = trials_of("reinforce", "lr=0.01", "seed=0", "epochs=8")
    with_baseline, without = (metrics_of(train(metric, planned), metric) for planned in trials)
    assert with_baseline[-1] > with_baseline[0] + 3
    assert without != with_baseline


def test_a_forest_is_compared_with_the_harness_s_own_training() -> None:
    metric, trials = trials_of("forest")
    forest, network = trials[0], trials[-1]
    assert (forest.trial.training_loop.name, network.trial.training_loop.name) == ("forest", "none")
    assert forest.fingerprint == network.fingerprint
    (accuracy,) = metrics_of(train(metric, forest), metric)
    assert accuracy > 0.85


def test_a_gan_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    metric, trials = trials_of("gan", "epochs=3", "lr=1e-3", "seed=0")
    planned = trials[0]
    whole = metrics_of(train(metric, planned), metric)
    assert interrupted(metric, planned, tmp_path) == whole


@pytest.mark.slow
def test_a_lightning_module_is_trained_by_its_trainer(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed (extra: lightning)")
    metric, trials = trials_of("lightning_module", "epochs=3", "lr=1e-2", "seed=0")
    planned = trials[0]
    whole = metrics_of(train(metric, planned), metric)
    assert whole[-1] > 0.8
    assert interrupted(metric, planned, tmp_path) == whole
