"""Raising `epochs` continues a finished trial, through the commands and the store."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from harness import sweep
from harness.core.metrics import BEST, MACHINE_DEPENDENT
from harness.store import names

EXAMPLE = Path(__file__).resolve().parents[2] / "experiments" / "mnist_dropout_cnn.yaml"
DIGITS = """\
name: digits
trial:
  dataset: digits
  model: {name: mlp, hidden: [16], dropout: 0.3}
  optimizer: momentum
  lr: 0.05
  epochs: 2
grid: {scheduler: [constant, plateau, cosine]}
"""


def run(file: Path, epochs: int) -> None:
    arguments = [str(file), f"epochs={epochs}", "artifacts=all", "--checkpoint-every", "0.001"]
    assert sweep.main([*arguments, "--executor", "inline", "--no-compare"]) == 0


def stored(file: Path, epochs: int) -> dict[str, tuple[Any, Any, dict[str, str]]]:
    """By scheduler: each run's metrics, weights and tags."""
    from harness.store.read.run_details import fetch_weights
    from harness.store.store import open_store

    store = open_store()
    experiment = next(e for e in store.client.search_experiments() if e.name != "Default")
    found = {}
    for one in store.client.search_runs([experiment.experiment_id]):
        params, run_id = one.data.params, one.info.run_id
        if params.get("epochs") != str(epochs):
            continue
        values = {
            (name, point.step): point.value
            for name in one.data.metrics
            if not name.removeprefix(BEST).startswith(MACHINE_DEPENDENT)
            for point in store.client.get_metric_history(run_id, name)
        }
        weights = fetch_weights(store, run_id)
        assert weights is not None
        held = {name: tensor.tolist() for name, tensor in weights.items()}
        found[params["scheduler"]] = (values, held, one.data.tags)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("which", ["digits", "mnist"])
def test_a_continued_trial_equals_the_longer_one_at_once(
    which: str,
    workspace: Path,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, short, long = workspace / "digits.yaml", 2, 5
    file.write_text(DIGITS)
    if which == "mnist":
        request.getfixturevalue("mnist_root")
        file, short, long = EXAMPLE, 1, 2
    run(file, short)
    capsys.readouterr()
    run(file, long)
    told = capsys.readouterr().out
    continued = stored(file, long)
    other = tmp_path_factory.mktemp("at_once")
    (other / "mlruns").mkdir()
    with contextlib.chdir(other):
        run(file, long)
        at_once = stored(file, long)
    assert continued.keys() == at_once.keys()
    for scheduler, (values, weights, _) in at_once.items():
        assert continued[scheduler][0] == values
        assert continued[scheduler][1] == weights
    for scheduler, (_, _, tags) in continued.items():
        if scheduler == "cosine":
            assert "depends on the length of the whole run" in tags[names.TAG_NOT_CONTINUED]
        else:
            assert tags[names.TAG_CONTINUED_FROM] == str(short)
    count = "1 trial" if which == "mnist" else "2 trials"
    assert f"continued from {short} epoch{'s' * (short > 1)}: {count}" in told
    if which == "digits":
        assert "not continued, as the scheduler cosine depends on the length of the" in told
