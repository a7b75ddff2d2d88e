"""Options of a component from the signature of a class or a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
import torch
from pydantic import Field, ValidationError
from torch import nn

import harness
from harness.components.base import DataInfo, Task
from harness.components.code.signatures import PLACEHOLDERS, arguments, read_signature, substitute
from harness.core.errors import InputError

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

INFO = DataInfo(Task.MULTICLASS, (1, 8, 8), ("a", "b", "c"), outputs=3)


class Documented:
    """A thing.

    Args:
        width (int): units of the hidden layer.
        act: the activation.
    """

    def __init__(
        self,
        width: Annotated[int, Field(gt=0)] = 64,
        betas: tuple[float, float] = (0.9, 0.999),
        act: Literal["relu", "tanh"] = "relu",
        norm: type[nn.Module] = nn.BatchNorm2d,
        rate=0.1,
        depth=2,
        clip: float | None = None,
    ) -> None: ...


def options(**values: Any) -> Any:
    return read_signature(Documented, "thing").options.model_validate(values)


def test_defaults_are_those_of_the_signature() -> None:
    assert options().model_dump() == {
        "width": 64,
        "betas": (0.9, 0.999),
        "act": "relu",
        "rate": 0.1,
        "depth": 2,
        "clip": None,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"width": 1.5},
        {"width": "64"},
        {"betas": [0.9]},
        {"act": "gelu"},
        {"rate": "high"},
        {"depth": "deep"},
        {"clip": True},
        {"widht": 1},
        {"rate": float("nan")},
    ],
    ids=str,
)
def test_values_are_validated(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**wrong)


def test_a_list_stands_for_a_tuple() -> None:
    assert options(betas=[0.5, 0.6]).betas == (0.5, 0.6)


def test_an_untyped_parameter_takes_numbers_like_its_default() -> None:
    assert options(depth=0.5).depth == 0.5
    assert options(rate=1).rate == 1


def test_descriptions_are_read_from_the_docstring() -> None:
    fields = read_signature(Documented, "thing").options.model_fields
    assert fields["width"].description == "units of the hidden layer."
    assert fields["act"].description == "the activation."
    assert fields["rate"].description == ""


def test_every_option_has_a_json_schema() -> None:
    schema = read_signature(
        Documented, "thing", placeholders=PLACEHOLDERS
    ).options.model_json_schema()
    assert set(schema["properties"]) == {"width", "betas", "act", "rate", "depth", "clip"}


def test_the_data_is_found_by_its_annotation() -> None:
    def by_class(data: harness.DataInfo, width: int = 1) -> None: ...

    def by_text(data: "harness.DataInfo", other: "Unknown" = None) -> None: ...  # noqa: UP037

    for function in (by_class, by_text):
        signature = read_signature(function, "f")
        assert signature.takes_data == ("data",)
        given = arguments(signature, signature.options(), INFO)
        assert given["data"] is INFO


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$features", 64),
        ("$classes", 3),
        ("$outputs", 3),
        ("$channels", 1),
        ("$shape", (1, 8, 8)),
        (["$features", 32], [64, 32]),
        ("$featuresx", "$featuresx"),
        ("features", "features"),
        (1, 1),
    ],
)
def test_placeholders_stand_for_what_is_known_of_the_data(value: Any, expected: Any) -> None:
    assert substitute(value, INFO) == expected


def test_a_placeholder_is_valid_where_a_number_is() -> None:
    def net(inputs: int, sizes: list[int] = [1]) -> None: ...  # noqa: B006

    made = read_signature(net, "net", placeholders=PLACEHOLDERS).options
    assert made.model_validate({"inputs": "$features"}).model_dump()["inputs"] == "$features"
    with pytest.raises(ValidationError):
        made.model_validate({"inputs": "$feature"})
    with pytest.raises(ValidationError):
        read_signature(net, "net").options.model_validate({"inputs": "$features"})


def test_keyword_arguments_of_any_name_are_passed_on() -> None:
    def net(width: int = 1, **kwargs: Any) -> None: ...

    signature = read_signature(net, "net")
    given = signature.options.model_validate({"depth": 3})
    assert arguments(signature, given) == {"width": 1, "depth": 3}


def test_names_of_pydantic_methods_are_options_too(recwarn: pytest.WarningsRecorder) -> None:
    def net(copy: int = 1, schema: str = "a", json: bool = False) -> None: ...

    signature = read_signature(net, "net")
    given = signature.options.model_validate({"copy": 2})
    assert arguments(signature, given) == {"copy": 2, "schema": "a", "json": False}
    assert not recwarn.list


def test_a_parameter_that_no_option_can_set_keeps_its_default_or_is_refused() -> None:
    def fine(name: str = "x", _hidden: int = 1, /, width: int = 2) -> None: ...

    def wrong(name: str) -> None: ...

    assert set(read_signature(fine, "fine").options.model_fields) == {"width"}
    with pytest.raises(InputError, match="'name'"):
        read_signature(wrong, "wrong")


@pytest.mark.parametrize("of", [torch.optim.AdamW, torch.optim.SGD, nn.Linear])
def test_signatures_of_torch_are_read(of: Any) -> None:
    filled = ("params", "lr") if issubclass(of, torch.optim.Optimizer) else ()
    fields = read_signature(of, of.__name__, filled=filled).options.model_fields
    assert fields
    assert "self" not in fields
