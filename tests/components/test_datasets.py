"""Every data set against its own word, and the bundled ones against scikit-learn."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from harness.components.base import Dataset, SplitRule, Task
from harness.components.datasets import california_housing
from harness.components.registry import components
from harness.components.shared.splitting import SPLITTING
from harness.core.errors import DataMissing, InputError
from harness.experiment.trial import Choice
from harness.training.data import load_splits
from tests.components.synthetic_data import (
    Evil,
    tensor_inputs,
    write_all,
)
from tests.support import assert_keeps_contract, make_trial, registered


@pytest.fixture(scope="module")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with small files in the true formats."""
    return write_all(tmp_path_factory.mktemp("data"))


EVERY = [
    pytest.param(dataset, dict(options), id=f"{dataset.name}-{n}")
    for dataset in components("datasets").values()
    for n, options in enumerate(dataset.tiny)
]


@pytest.mark.parametrize(("dataset", "given"), EVERY)
def test_loads_what_it_describes(dataset, given, synthetic_root, data_root) -> None:
    root = data_root if dataset.name == "california_housing" else synthetic_root
    options = dataset.options.model_validate(given)
    try:
        info, checksum = dataset.info(options, root), dataset.fingerprint(options, root)
    except DataMissing as error:
        assert dataset.name == "california_housing", "every other one can be had or made"
        pytest.skip(str(error))
    assert len(bytes.fromhex(checksum)) == 32
    assert_keeps_contract(Choice(dataset, options), info, data_root=root)
    raw = dataset.load(options, root)
    trial = make_trial(dataset={"name": dataset.name, **given}, val_fraction=0.0)
    cut = load_splits(trial, root, torch.device("cpu"))
    assert info.examples in (None, len(cut.train))
    assert (raw.test is None) != (raw.split is None)
    if raw.split is not None and raw.split.test_fraction:
        assert set(SPLITTING) <= set(dataset.imports), "else each worker imports it for itself"
    assert all(find_spec(name) for name in dataset.imports)
    for examples in filter(None, (raw.train, raw.test)):
        lazy = not isinstance(examples.inputs, torch.Tensor)
        inputs = torch.stack(list(map(examples.inputs.__getitem__, range(len(examples)))))
        assert lazy or torch.equal(inputs, examples.inputs)
        assert inputs.dtype in ([torch.uint8] if info.is_image else [torch.float64, torch.float32])
        ready = raw.prepare(inputs) if raw.prepare else inputs.float()
        assert ready.dtype == torch.float32
        assert ready.shape == (len(examples), *info.shape)
        if info.task is Task.AUTOENCODING:
            assert info.targets == info.features
        elif not info.task.is_classification:
            assert examples.targets.dtype == torch.float32
            assert examples.targets.shape == (len(examples), info.targets)
            assert (info.task is Task.MULTILABEL) == (info.classes == info.targets)
            if info.task is Task.MULTILABEL:
                assert set(examples.targets.unique().tolist()) <= {0, 1}
        else:
            assert examples.targets.dtype == torch.int64
            assert examples.targets.shape == (len(examples),)
            assert set(examples.targets.tolist()) <= set(range(info.classes))
            is_binary = info.classes == 2 and info.task is not Task.ORDINAL
            assert (info.task is Task.BINARY) == is_binary
    again = dataset.load(options, root)
    assert torch.equal(again.train.targets, raw.train.targets)
    assert dataset.fingerprint(options, root) == checksum


def test_described_and_fingerprinted_without_heavy_libraries(synthetic_root) -> None:
    """pandas alone is let in, by a CSV file's description."""
    code = """
import sys
from pathlib import Path
from harness.core.errors import DataMissing
from harness.components.registry import components
root = Path(sys.argv[1])
done = 0
for dataset in components("datasets").values():
    options = dataset.options.model_validate(dataset.tiny[0])
    try:
        dataset.fingerprint(options, root)
        assert "pandas" not in sys.modules or dataset.name > "csv"
        dataset.info(options, root)
        done += 1
    except DataMissing:
        assert dataset.name == "california_housing"
print(done, *sorted({"torch", "torchvision", "sklearn", "scipy"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(synthetic_root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(len(components("datasets")) - 1)]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("california_housing", "sklearn/cal_housing_py3.pkz"),
    ],
)
def test_absent_data_names_the_file_and_the_folder(name, wanted, tmp_path) -> None:
    dataset = registered(Dataset)[name]
    options = dataset.options.model_validate({"download": False})
    for ask in (dataset.fingerprint, dataset.load):
        with pytest.raises(DataMissing) as caught:
            ask(options, tmp_path)
        assert str(tmp_path / wanted) in str(caught.value)
        assert "HARNESS_DATA" in str(caught.value)


def test_the_location_of_data_is_not_part_of_a_trials_id() -> None:
    paths = [make_trial(dataset={"name": "image_folder", "path": path}) for path in ("a", "b")]
    assert paths[0].identity() == paths[1].identity()
    fetched = make_trial(dataset="mnist")
    kept = make_trial(dataset={"name": "mnist", "download": False})
    assert fetched.identity() == kept.identity()


# scikit-learn's tables


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "wine", "diabetes"])
def test_toy_tables_are_scikit_learns(name) -> None:
    import sklearn.datasets

    loader = getattr(sklearn.datasets, f"load_{name}")
    bunch = loader(scaled=False) if name == "diabetes" else loader()
    dataset = registered(Dataset)[name]
    raw = dataset.load(dataset.options(), Path("nowhere"))
    assert torch.equal(tensor_inputs(raw.train), torch.tensor(bunch.data, dtype=torch.float64))
    assert raw.train.targets.flatten().tolist() == bunch.target.tolist()
    assert raw.split == SplitRule(test_fraction=0.2, seed=0, stratify=False)
    assert raw.standardise
    if name != "diabetes":
        assert list(raw.info.class_names) == list(bunch.target_names)


def test_a_regression_cannot_be_stratified() -> None:
    with pytest.raises(ValueError, match="stratify"):
        components("datasets")["diabetes"].options.model_validate({"stratify": True})


def test_digits_are_scaled_by_their_darkest_value() -> None:
    dataset = registered(Dataset)["digits"]
    raw = dataset.load(
        dataset.options.model_validate({"mean": (0.0,), "std": (1.0,)}), Path("nowhere")
    )
    assert len(raw.train) == 1797
    part = dataset.load(dataset.options.model_validate({"limit": 7}), Path("nowhere"))
    assert torch.equal(tensor_inputs(part.train), tensor_inputs(raw.train)[:7])
    assert raw.prepare is not None
    ready = raw.prepare(tensor_inputs(raw.train))
    assert (float(ready.min()), float(ready.max())) == (0.0, 1.0)


@pytest.fixture(scope="session")
def housing(data_root: Path) -> Path:
    if not (data_root / california_housing.FILE).is_file():
        pytest.skip(f"California housing is not in {data_root} (set HARNESS_DATA)")
    return data_root


def test_housing_is_scikit_learns(housing) -> None:
    from sklearn.datasets import fetch_california_housing

    inputs, targets = fetch_california_housing(
        data_home=housing / "sklearn", download_if_missing=False, return_X_y=True
    )
    raw = california_housing.load(california_housing.CaliforniaHousingOptions(), housing)
    assert torch.equal(tensor_inputs(raw.train), torch.tensor(inputs, dtype=torch.float64))
    assert torch.equal(raw.train.targets[:, 0], torch.tensor(targets, dtype=torch.float32))


def test_the_housing_file_is_never_unpickled(tmp_path) -> None:
    file = tmp_path / california_housing.FILE
    file.parent.mkdir()
    trace = tmp_path / "trace"
    for content in (zlib.compress(pickle.dumps(Evil(trace))), b"not packed"):
        file.write_bytes(content)
        with pytest.raises(InputError, match="delete it and run again"):
            california_housing.load(california_housing.CaliforniaHousingOptions(), tmp_path)
    assert not trace.exists()


# Truth tables


@pytest.mark.parametrize(
    ("gate", "rule"),
    [
        ("and", lambda a, b: a and b),
        ("or", lambda a, b: a or b),
        ("nor", lambda a, b: not (a or b)),
        ("nand", lambda a, b: not (a and b)),
        ("xor", lambda a, b: a != b),
    ],
)
def test_gates(gate, rule) -> None:
    dataset = registered(Dataset)["logic_gate"]
    raw = dataset.load(dataset.options.model_validate({"gate": gate}), Path("nowhere"))
    rows = {(int(a), int(b)): int(y) for (a, b), y in zip(*raw_rows(raw), strict=True)}
    assert rows == {(a, b): int(rule(a, b)) for a in (0, 1) for b in (0, 1)}
    assert raw.split is not None
    assert raw.split.test_fraction == 0


def raw_rows(raw):
    return raw.train.inputs.tolist(), raw.train.targets.tolist()
