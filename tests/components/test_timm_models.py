"""Models of timm: checked names, filled channels and classes, and weights from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from harness.components.base import DataInfo, Model, Task
from tests.support import find_component

pytest.importorskip("timm", reason="timm is not installed")

IMAGES = DataInfo(Task.MULTICLASS, (1, 32, 32), ("a", "b", "c"))
TIMM = find_component(Model, "timm")


def build(info: DataInfo = IMAGES, **options: Any) -> torch.nn.Module:
    network: torch.nn.Module = TIMM.build(TIMM.options.model_validate(options), info, 3)
    return network


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit2", "test_efficientnet"])
def test_channels_classes_and_size_come_from_the_data(arch: str) -> None:
    options = TIMM.options.model_validate({"arch": arch})
    assert TIMM.accepts(options, IMAGES) is None
    assert build(arch=arch)(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


def test_an_unknown_architecture_names_the_closest() -> None:
    with pytest.raises(ValidationError, match="timm has no 'resnet_18'; did you mean 'resnet18'"):
        TIMM.options.model_validate({"arch": "resnet_18"})


def test_only_images_are_accepted() -> None:
    reason = TIMM.accepts(TIMM.options(), DataInfo(Task.MULTICLASS, (4,), ("a", "b")))
    assert reason == "needs images; this data set has examples of shape [4]"


def test_weights_come_from_a_file_and_a_head_of_another_size_stays(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    trained = build(arch="test_resnet").state_dict()
    ten = TIMM.build(TIMM.options.model_validate({"arch": "test_resnet"}), IMAGES, 10)
    torch.save(ten.state_dict(), file)
    loaded = build(arch="test_resnet", weights=str(file)).state_dict()
    same = [name for name, value in ten.state_dict().items() if torch.equal(value, loaded[name])]
    assert set(trained) - set(same) == {"fc.weight", "fc.bias"}
