"""Experiments with data sets, schedules and augmentations of a user's own, from file to records."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent

import pytest

from harness.check import main as check
from harness.components import registry
from harness.components.code.datasets import forget_data
from harness.core.errors import InputError
from harness.core.records import Ended, Measured, Outcome, Record
from harness.execution.devices import DeviceSlots
from harness.execution.executors.process import ProcessExecutor
from harness.execution.queue import make_task
from harness.experiment.loading import load
from harness.experiment.plan import make_plan
from harness.experiment.trial import Trial
from harness.training.checkpoint import Checkpoint
from harness.training.data import clear_caches, load_splits
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from tests.resume_support import comparable
from tests.training.stacked.stacked_support import train_records

CODE = """
import torch, harness
from torch import nn
from torch.utils.data import Dataset

@harness.dataset(class_names=["no", "yes"])
class Words(Dataset):
    '''Is token 3 among them?'''
    def __init__(self, n: int = 60, train: bool = True):
        self.x = torch.randint(0, 9, (n if train else 20, 5))
    def __len__(self):
        return len(self.x)
    def __getitem__(self, i):
        return self.x[i], int((self.x[i] == 3).any())

@harness.dataset
def waves(n: int = 60):
    x = torch.randn(n, 7, 4)
    return x, x[:, -1].mean(1)

class Images(Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        return torch.rand(1, 6, 6, generator=g)

def points():
    return torch.randn(40, 3), torch.arange(40) % 3

@harness.model
class Bag(nn.Module):
    def __init__(self, data: harness.DataInfo):
        super().__init__()
        self.embed = nn.Embedding(data.tokens, 4)
        self.out = nn.Linear(4, data.outputs)
    def forward(self, x):
        assert x.dtype == torch.int64
        return self.out(self.embed(x).mean(1))

@harness.model
class Recurrent(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.lstm = nn.LSTM(inputs, 4, batch_first=True)
        self.out = nn.Linear(4, outputs)
    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])

@harness.model
class Reversed(nn.Module):
    '''Returns images.'''
    def __init__(self, data: harness.DataInfo):
        super().__init__()
        self.conv = nn.Conv2d(data.channels, data.channels, 3, padding=1)
    def forward(self, x):
        return self.conv(x)

@harness.scheduler
def triangle(lr, t, total, peak: float = 2.0):
    return lr * (1 + (peak - 1) * (1 - abs(2 * t / total - 1)))

@harness.augmentation
def jitter(x, generator, std: float = 0.1):
    return x + std * torch.randn(x.shape, generator=generator, device=x.device)

@harness.loss(outputs=1, tasks=["regression"], predict=torch.sinh)
def compressed(outputs, targets):
    return (outputs - targets.asinh()).square()
"""

ONE_CYCLE = (
    '{name: "torch.optim.lr_scheduler:OneCycleLR", max_lr: 0.1, total_steps: $total, by: batch, '
    "cycle_momentum: false}"
)
TRIALS = {
    "tokens": {"dataset": "words", "model": "bag", "metrics": "[accuracy]"},
    "sequences": {"dataset": "waves", "model": "{name: recurrent, inputs: 4, outputs: $outputs}"},
    "flattened": {"dataset": "waves", "model": "mlp", "augment": "[[jitter]]"},
    "images of their own": {"dataset": '"own_code.py:Images"', "model": "reversed"},
    "by place": {"dataset": '"own_code.py:points"', "model": "mlp", "scheduler": "triangle"},
    "torch's schedule": {"dataset": '"own_code.py:points"', "model": "mlp", "scheduler": ONE_CYCLE},
    "what a loss predicts": {"dataset": "waves", "model": "mlp", "loss": "compressed"},
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    def written(code: str = CODE, **fields: str) -> Path:
        (tmp_path / "own_code.py").write_text(dedent(code))
        path = tmp_path / "own.yaml"
        trial = {"optimizer": "adam", "lr": "0.01", "epochs": "1", "batch_size": "16"} | fields
        lines = indent("".join(f"{name}: {value}\n" for name, value in trial.items()), "  ")
        head = "name: own\ncode: own_code.py\ngrid: {seed: [0, 1]}\ntrial:\n"
        path.write_text(head + lines.replace("augment: [[", "augment: [").replace("]]", "]"))
        return path

    yield written
    registry.activate(None)
    forget_data()
    clear_caches()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def trials(path: Path) -> list[Trial]:
    return [planned.trial for planned in make_plan(load(path)).trials]


def records_of(trial: Trial) -> list[Record]:
    items = train(TrainingSetup(trial, Path()))
    return [item for item in items if not isinstance(item, Checkpoint)]


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_alone_and_in_a_stack(write: Write, name: str) -> None:
    made = trials(write(**TRIALS[name]))
    alone = [records_of(trial) for trial in made]
    for records in alone:
        assert isinstance(records[-1], Ended)
        assert records[-1].outcome is Outcome.DONE
    if name == "sequences":
        return  # torch.vmap does not support LSTM.
    keyed = [(str(number), trial) for number, trial in enumerate(made)]
    stacked = list(train_records(keyed, Path()))
    for number, records in enumerate(alone):
        ended = [record for key, record in stacked if key == str(number)][-1]
        assert isinstance(ended, Ended)
        assert isinstance(records[-1], Ended)
        assert ended.final == pytest.approx(records[-1].final, rel=1e-3, abs=1e-4)


def test_two_processes_read_the_same_examples(write: Write) -> None:
    first = trials(write(**TRIALS["tokens"]))[0]
    whole = comparable(records_of(first))
    forget_data()
    clear_caches()
    assert comparable(records_of(first)) == whole


@pytest.mark.slow
def test_a_worker_process_trains_on_own_data(write: Write) -> None:
    planned = make_plan(load(write(**TRIALS["tokens"]))).trials[0]
    executor = ProcessExecutor([DeviceSlots("cpu", 1)])
    executor.submit(make_task(Path(), False, None, None, [planned]))
    record: object = None
    while not isinstance(record, Ended):
        event = executor.next(timeout=60)
        assert event is not None
        record = event.record
    executor.close()
    *_, alone = train(TrainingSetup(planned.trial, Path()))
    assert isinstance(alone, Ended)
    assert record.final == alone.final


def ids(path: Path) -> list[str]:
    forget_data()
    return [planned.trial_id for planned in make_plan(load(path)).trials]


def test_examples_code_and_options_are_parts_of_the_id(write: Write) -> None:
    fields = {"dataset": "waves", "model": "mlp"}
    before = ids(write(**fields))
    assert ids(write(**fields)) == before
    assert ids(write(CODE + "# a comment\n", **fields)) == before
    assert not set(before) & set(ids(write(CODE.replace("x[:, -1]", "x[:, -2]"), **fields)))
    assert not set(before) & set(ids(write(**fields | {"dataset": "{name: waves, n: 61}"})))


def test_data_that_code_reads_are_a_part_of_the_id(write: Write, tmp_path: Path) -> None:
    """Also where the code is the same."""
    (tmp_path / "numbers.txt").write_text("1 2 3 4 5 6")
    code = CODE + (
        "\nfrom pathlib import Path\n"
        "def numbers():\n"
        "    read = Path(__file__).with_name('numbers.txt').read_text().split()\n"
        "    x = torch.tensor(list(map(float, read)))[:, None]\n"
        "    return x, x[:, 0] * 2\n"
    )
    fields = {"dataset": '"own_code.py:numbers"', "model": "mlp", "val_fraction": "0"}
    before = ids(write(code, **fields))
    (tmp_path / "numbers.txt").write_text("1 2 3 4 5 7")
    assert not set(before) & set(ids(write(code, **fields)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"dataset": "words", "model": "mlp"},
            r"(?s)token numbers \(whole numbers below 9\).*float",
        ),
        ({"dataset": "words", "model": "cnn"}, "cnn cannot take words"),
        ({"dataset": "waves", "model": "mlp", "augment": "flip"}, "changes images, but waves has"),
        ({"dataset": "waves", "model": "mlp", "loss": "bce"}, "bce' does not fit a regression"),
        ({"dataset": "words", "model": "bag", "loss": "compressed"}, "does not fit a binary data"),
        ({"dataset": "{name: waves, n: few}", "model": "mlp"}, "n: must be an integer"),
        ({"dataset": "{name: waves, m: 3}", "model": "mlp"}, "dataset 'waves' has no option 'm'"),
        (
            {"dataset": "{name: waves, n: 0}", "model": "mlp"},
            r"own_code.py:\d+: dataset waves: it has no examples",
        ),
        ({"dataset": "wave", "model": "mlp"}, "did you mean 'waves'"),
        ({"dataset": '"own_code.py:Image"', "model": "mlp"}, "did you mean 'Images'"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told(write: Write, fields: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(write(**fields))


def test_the_contract_holds_for_token_numbers(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    head, _, rest = CODE.partition("@harness.model\nclass Recurrent")
    assert rest
    path = write(head, dataset="words", model="bag")
    assert check([str(path)]) == 0, capsys.readouterr().out


def test_each_seed_has_its_own_validation_examples(write: Write) -> None:
    import torch

    first, second = trials(write(**TRIALS["by place"]))
    cut = [load_splits(trial, Path(), torch.device("cpu")) for trial in (first, second)]
    assert len(cut[0].train) == len(cut[1].train) == 28
    assert not torch.equal(cut[0].train.first(28), cut[1].train.first(28))
    assert torch.equal(cut[0].test.first(8), cut[1].test.first(8))


@pytest.mark.parametrize("name", ["own-data", "own-parts"])
def test_the_examples_of_the_documentation_train(write: Write, tmp_path: Path, name: str) -> None:
    write()
    text = (Path(__file__).parents[3] / "docs" / "your-own-code.md").read_text()
    for file, code in re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", text, re.DOTALL):
        (tmp_path / file).write_text(code)
    (block,) = re.findall(rf"```yaml\n(name: {name}\n.*?)```", text, re.DOTALL)
    path = tmp_path / "example.yaml"
    path.write_text(block)
    for planned in make_plan(load(path, ["trial.epochs=1"])).trials:
        *_, ended = records_of(planned.trial)
        assert isinstance(ended, Ended)
        assert ended.outcome is Outcome.DONE


def test_an_autoencoder_of_own_images_returns_images(write: Write) -> None:
    trial = trials(write(**TRIALS["images of their own"]))[0]
    points = [r for r in train(TrainingSetup(trial, Path())) if isinstance(r, Measured)]
    assert {"val/mse", "test/mse"} <= set(points[-1].values)
