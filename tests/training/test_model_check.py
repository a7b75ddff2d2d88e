"""Models of a user's own that cannot train are told before training, with file and line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import sweep
from harness.components import registry

HEAD = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, features=64, outputs=10):
        super().__init__()
        self.layer = nn.Linear(features, outputs)
"""
MISTAKES = {
    "outputs": (
        "    def forward(self, x):\n        return self.layer(x.flatten(1))[:, 1:]\n",
        "net.py:4: model net.py:Net returned outputs of shape [2, 9], and not [2, 10]",
    ),
    "one number each": (
        "    def forward(self, x):\n        return self.layer(x.flatten(1)).sum(1)\n",
        "net.py:4: model net.py:Net returned outputs of shape [2], and not [2, 10]",
    ),
    "tuple": (
        "    def forward(self, x):\n        return self.layer(x.flatten(1)), x\n",
        "net.py:4: model net.py:Net returned a tuple, and not a tensor of shape [2, 10]",
    ),
    "dict": (
        "    def forward(self, x):\n        return {'logits': self.layer(x.flatten(1))}\n",
        "net.py:4: model net.py:Net returned a dict, and not a tensor",
    ),
    "no return": (
        "    def forward(self, x):\n        self.layer(x.flatten(1))\n",
        "net.py:4: model net.py:Net returned nothing, and not a tensor",
    ),
    "another shape": (
        "    def forward(self, x):\n        return self.layer(x.repeat(1, 2, 1, 1).flatten(1))\n",
        "net.py:9: model net.py:Net cannot take examples of digits, [B, 1, 8, 8]: RuntimeError: ",
    ),
    "another device": (
        "    def forward(self, x):\n        return self.layer(x.flatten(1).to('cuda:99'))\n",
        "net.py:9: model net.py:Net cannot take examples of digits, [B, 1, 8, 8]: ",
    ),
    "no parameters": (
        (
            "    def forward(self, x):\n        return x.flatten(1)[:, :10]\n"
            "    def parameters(self, recurse=True):\n        return iter(())\n"
        ),
        "net.py:4: model net.py:Net has no parameters: there is nothing to train",
    ),
    "an error while it is built": (
        (
            "        self.other = nn.Linear(features, None)\n"
            "    def forward(self, x):\n        return self.layer(x.flatten(1))\n"
        ),
        "net.py:8: model net.py:Net cannot take examples of digits",
    ),
}
FILE = """\
name: wrong
trial: {dataset: digits, model: "net.py:Net", optimizer: sgd, lr: 0.1, epochs: 1}
grid: {seed: [0, 1, 2]}
"""


@pytest.fixture(autouse=True)
def _no_code_stays() -> Iterator[None]:
    yield
    registry.activate(None)


@pytest.mark.parametrize(("code", "message"), MISTAKES.values(), ids=MISTAKES)
def test_before_training_and_without_a_traceback(
    code: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    empty_database: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(empty_database.read_bytes())
    (tmp_path / "net.py").write_text(HEAD + code)
    (tmp_path / "wrong.yaml").write_text(FILE)
    assert sweep.main(["wrong.yaml", "--executor", "inline", "--no-compare"]) == 2
    told = capsys.readouterr()
    assert message in " ".join(told.err.split())
    assert told.err.count("net.py:Net") == 1
    assert "Traceback" not in told.out + told.err
    assert "training:" not in told.out
