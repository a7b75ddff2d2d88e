"""The contract of models, run over every registered one, and what single models promise."""

from __future__ import annotations

import pytest
import torch
from _pytest.mark import ParameterSet
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from harness.components.base import DataInfo, Model, Task
from harness.components.registry import components
from harness.experiment.trial import Choice
from tests.support import assert_keeps_contract

OUTPUTS = 10
CLASSES = tuple(str(digit) for digit in range(OUTPUTS))
SHAPES = ((10,), (1, 8, 8), (1, 28, 28), (3, 32, 32))


def image(*shape: int) -> DataInfo:
    return DataInfo(Task.MULTICLASS, shape, CLASSES)


def choose(name: str, **options: object) -> Choice[Model]:
    return Choice.of("models", {"name": name, **options})


def build(
    choice: Choice[Model], info: DataInfo, outputs: int = OUTPUTS, seed: int = 0
) -> nn.Module:
    torch.manual_seed(seed)
    return choice.component.build(choice.options, info, outputs)


def batch(info: DataInfo, size: int = 4) -> torch.Tensor:
    return torch.randn(size, *info.shape, generator=torch.Generator().manual_seed(0))


CHOICES = [
    choose(model.name, **tiny) for model in components("models").values() for tiny in model.tiny
]
PAIRS = [(choice, image(*shape)) for choice in CHOICES for shape in SHAPES]
ACCEPTED_PAIRS = [
    pair for pair in PAIRS if pair[0].component.accepts(pair[0].options, pair[1]) is None
]


def parameters(pairs: list[tuple[Choice[Model], DataInfo]]) -> list[ParameterSet]:
    return [
        pytest.param(choice, info, id=f"{choice.label}-{'x'.join(map(str, info.shape))}")
        for choice, info in pairs
    ]


ACCEPTED = parameters(ACCEPTED_PAIRS)
REFUSED = [pair for pair in PAIRS if pair[0].component.accepts(pair[0].options, pair[1])]


def test_no_option_set_is_refused_everywhere() -> None:
    """Else its contract would hold only because nothing was tried."""
    tried = {choice.label for choice, _ in ACCEPTED_PAIRS}
    assert tried == {choice.label for choice in CHOICES}


def test_a_refusal_says_what_is_wanted_and_what_was_given() -> None:
    for choice, info in REFUSED:
        reason = choice.component.accepts(choice.options, info)
        assert reason is not None
        assert "needs images" in reason, choice.label
        given = (
            str(list(info.shape)) if len(info.shape) == 1 else f"{info.shape[1]}×{info.shape[2]}"
        )
        assert given in reason, choice.label


@pytest.mark.parametrize(("choice", "info"), ACCEPTED)
def test_keeps_the_contract(choice, info) -> None:
    # Constant first weights are what this one option asks for.
    meant = (
        "its initial weights are constant" if getattr(choice.options, "init", 0) == "zeros" else ""
    )
    assert_keeps_contract(choice, info, OUTPUTS, notes=meant)
    assert build(choice, info, outputs=1)(batch(info)).shape == (4, 1)


LAID_OUT = parameters([pair for pair in ACCEPTED_PAIRS if pair[0].component.channels_last])


@pytest.mark.parametrize(("choice", "info"), LAID_OUT)
def test_where_channels_lie_in_memory_changes_no_gradient(choice, info) -> None:
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = build(choice, info).double().to(memory_format=layout)
        for layer in model.modules():
            if "Dropout" in type(layer).__name__:  # Masks are drawn in the order of memory.
                layer.eval()
        logits = model(batch(info).double())
        functional.cross_entropy(logits, torch.arange(4)).backward()
        found.append([logits, *(weights.grad for weights in model.parameters())])
    for plain, laid_out in zip(*found, strict=True):
        torch.testing.assert_close(laid_out, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("choice", "info"), ACCEPTED)
def test_classes_can_be_imported_by_name(choice, info) -> None:
    for module in build(choice, info).modules():
        assert type(module).__module__.split(".")[0] in {"torch", "torchvision", "harness"}
        assert "<locals>" not in type(module).__qualname__


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("choice", "info", "parameters"),
    [
        # Counted by hand, layer by layer: weights + biases.
        (choose("perceptron"), image(4), 4 * 10 + 10),
        (choose("mlp"), image(1, 28, 28), 784 * 24 + 24 + 24 * 24 + 24 + 24 * 10 + 10),
        (
            choose("cnn", padding="valid"),
            image(1, 28, 28),
            (9 * 32 + 32) + (32 * 9 * 32 + 32) + (32 * 5 * 5 * 100 + 100) + (100 * 10 + 10),
        ),
        (
            choose("bn_cnn"),
            image(1, 28, 28),
            9 * 8 + 2 * 8 + (8 * 9 * 16 + 16) + (16 * 14 * 14 * 10 + 10),
        ),
        # As printed for PyTorch's MNIST example.
        (choose("dropout_cnn"), image(1, 28, 28), 21_840),
    ],
    ids=lambda value: value.name if isinstance(value, Choice) else "",
)
def test_published_networks_have_their_number_of_parameters(choice, info, parameters) -> None:
    assert count(build(choice, info)) == parameters


def test_dropout_cnn_computes_what_pytorchs_example_does() -> None:
    info = image(1, 28, 28)
    model = build(choose("dropout_cnn"), info).eval()
    state = list(model.state_dict().values())
    x = batch(info)
    x = functional.relu(functional.max_pool2d(functional.conv2d(x, *state[0:2]), 2))
    x = functional.relu(functional.max_pool2d(functional.conv2d(x, *state[2:4]), 2))
    x = functional.relu(functional.linear(x.view(-1, 320), *state[4:6]))
    expected = functional.linear(x, *state[6:8])
    torch.testing.assert_close(model(batch(info)), expected)


@pytest.mark.parametrize(
    ("name", "torch_class"),
    [("relu", nn.ReLU), ("sigmoid", nn.Sigmoid), ("tanh", nn.Tanh), ("gelu", nn.GELU)],
)
@pytest.mark.parametrize("model", ["mlp", "cnn", "bn_cnn"])
def test_activation_is_the_one_asked_for(model, name, torch_class) -> None:
    layers = list(build(choose(model, activation=name), image(1, 8, 8)).modules())
    assert sum(type(layer) is torch_class for layer in layers) == 2 + (model == "cnn")


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize(
    ("init", "hidden_rule", "output_rule"),
    [
        ("default", "torch", "torch"),
        ("kaiming_uniform", "kaiming", "kaiming"),
        ("xavier_uniform", "xavier", "xavier"),
        ("kaiming_xavier", "kaiming", "xavier"),
    ],
)
def test_initial_weights_fill_the_published_bounds(model, init, hidden_rule, output_rule) -> None:
    """A uniform draw in ±bound: its largest weight comes close to the bound, never above."""
    network = build(choose(model, init=init), image(1, 28, 28))
    layers = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    for layer in layers:
        fan_in = layer.weight[0].numel()
        fan_out = layer.weight.numel() // layer.weight.shape[1]
        bound = {
            "torch": (1 / fan_in) ** 0.5,
            "kaiming": (6 / fan_in) ** 0.5,
            "xavier": (6 / (fan_in + fan_out)) ** 0.5,
        }[output_rule if layer is layers[-1] else hidden_rule]
        assert 0.9 * bound < layer.weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": "mlp", "hidden": [24, 0]}, "hidden.1"),
        ({"name": "mlp", "hidden": [-1]}, "hidden.0"),
        ({"name": "mlp", "dropout": 1.0}, "dropout"),
        ({"name": "mlp", "activation": "swish"}, "activation"),
        ({"name": "cnn", "channels": []}, "channels"),
        ({"name": "cnn", "channels": [4, 0]}, "channels.1"),
        ({"name": "cnn", "hidden": 0}, "hidden"),
        ({"name": "bn_cnn", "first": 0}, "first"),
        ({"name": "dropout_cnn", "padding": 2}, "padding"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, field) -> None:
    with pytest.raises(ValidationError) as refused:
        Choice.of("models", options)
    assert [".".join(map(str, error["loc"])) for error in refused.value.errors()] == [field]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    ("choice", "least"),
    [
        (choose("cnn"), 4),
        (choose("cnn", padding="valid"), 10),
        (choose("cnn", channels=[4, 4, 4], padding="valid"), 22),
        (choose("bn_cnn"), 2),
        (choose("dropout_cnn"), 16),
        (choose("dropout_cnn", padding="same"), 4),
    ],
    ids=lambda value: value.label if isinstance(value, Choice) else "",
)
def test_the_smallest_image_accepted_is_the_smallest_that_works(choice, least) -> None:
    accepts = choice.component.accepts
    assert accepts(choice.options, image(1, least, least)) is None
    assert build(choice, image(1, least, least))(torch.randn(2, 1, least, least)).shape == (2, 10)
    for shape in ((1, least - 1, least), (1, least, least - 1)):
        assert f"at least {least}×{least}" in accepts(choice.options, image(*shape))
        with pytest.raises((RuntimeError, ZeroDivisionError)):
            build(choice, image(*shape))(torch.randn(2, *shape))
