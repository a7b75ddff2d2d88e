"""Truth tables of two inputs. One linear layer can learn them all, except XOR."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from harness.components.base import DataInfo, Dataset, Examples, Options, RawData, SplitRule, Task

INPUTS: Final = ((0, 0), (0, 1), (1, 0), (1, 1))
OUTPUTS: Final[Mapping[str, tuple[int, int, int, int]]] = {
    "and": (0, 0, 0, 1),
    "or": (0, 1, 1, 1),
    "nor": (1, 0, 0, 0),
    "nand": (1, 1, 1, 0),
    "xor": (0, 1, 1, 0),
}


class LogicGateOptions(Options):
    gate: Literal["and", "or", "nor", "nand", "xor"] = Field("and", description="the truth table")


def info(options: LogicGateOptions, root: Path) -> DataInfo:
    return DataInfo(Task.BINARY, (2,), ("false", "true"), examples=len(INPUTS))


def fingerprint(options: LogicGateOptions, root: Path) -> str:
    return hashlib.sha256(repr((INPUTS, OUTPUTS[options.gate])).encode()).hexdigest()


def load(options: LogicGateOptions, root: Path) -> RawData:
    import torch

    inputs = torch.tensor(INPUTS, dtype=torch.float32)
    targets = torch.tensor(OUTPUTS[options.gate], dtype=torch.int64)
    return RawData(info(options, root), Examples(inputs, targets), split=SplitRule(test_fraction=0))


COMPONENTS = (
    Dataset(
        name="logic_gate",
        description="the truth table of a logic gate; the test examples are the training examples",
        reference="Minsky and Papert, Perceptrons (1969)",
        options=LogicGateOptions,
        tiny=tuple({"gate": gate} for gate in OUTPUTS),
        info=info,
        fingerprint=fingerprint,
        load=load,
    ),
)
