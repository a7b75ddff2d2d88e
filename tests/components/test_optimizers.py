"""The optimizers against torch's signatures, against steps worked by hand, and by their names."""

from __future__ import annotations

import inspect
import math
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.components.base import DataInfo, Optimizer, Task
from harness.components.optimizers.adaptive import fused
from harness.components.optimizers.torch_optim import NOT_OPTIONS, OTHERS, REGISTERED, UNSUPPORTED
from harness.components.registry import UnknownComponent, components, find
from harness.core.errors import InputError
from harness.experiment.trial import Choice
from tests.support import assert_keeps_contract, find_component, registered

OWN = tuple(components("optimizers"))
OF_TORCH = tuple(name for name, record in registered(Optimizer).items() if record.torch_class)
RESOLVED = tuple(name for name in OTHERS if name not in UNSUPPORTED)

NAMED_BY: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0, "dampening": 0, "nesterov": False},
    "momentum": {"nesterov": False},
    "nesterov": {"nesterov": True, "dampening": 0},
    "adam": {"decoupled_weight_decay": False},
    "adamw": {"decoupled_weight_decay": True},
}
"""Parameters of the torch class that the component's name decides, and the value it decides on."""

OTHER_DEFAULTS = {("momentum", "momentum"): 0.9, ("nesterov", "momentum"): 0.9}
"""Where torch's default would make the name a lie."""


def build(name, parameters, lr=0.1, **options):
    choice = Choice.of("optimizers", {"name": name, **options})
    named = [(f"p{i}", parameter) for i, parameter in enumerate(parameters)]
    return choice.component.build(choice.options, named, lr)


def parameter(value=1.0, dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(value, dtype=dtype))


def class_of_torch(record: Optimizer) -> Any:
    """The class of `torch.optim` that a component builds."""
    assert record.torch_class is not None
    return getattr(torch.optim, record.torch_class)


def signature(record: Optimizer) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(class_of_torch(record)).parameters)
    del parameters["params"], parameters["lr"]
    return parameters


def stepped(name, gradients, **options):
    """The scalar that starts at 1.0 after one step of lr 0.1 for each gradient."""
    theta = parameter()
    optimizer = build(name, [theta], **options)
    for gradient in gradients:
        theta.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return theta.item()


@pytest.mark.parametrize("name", OF_TORCH + RESOLVED)
def test_options_are_those_of_torch_with_its_defaults(name) -> None:
    record = find_component(Optimizer, name)
    expected = {
        key: OTHER_DEFAULTS.get((name, key), parameter.default)
        for key, parameter in signature(record).items()
        if key not in NOT_OPTIONS and key not in NAMED_BY.get(name, {})
    }
    assert record.options().model_dump(exclude={"no_decay"}) == expected


@pytest.mark.parametrize("name", OF_TORCH)
def test_every_option_reaches_torch(name) -> None:
    record = find_component(Optimizer, name)
    changed = record.options.model_validate(record.tiny[-1]).model_dump(exclude={"no_decay"})
    defaults = record.options().model_dump()
    assert all(changed[key] != defaults[key] for key in changed), "tiny should change every option"

    [group] = build(name, [parameter()], lr=0.123, **record.tiny[-1]).param_groups

    assert {key: group[key] for key in changed} == changed
    assert group["lr"] == 0.123
    assert {key: group[key] for key in NAMED_BY.get(name, {})} == NAMED_BY.get(name, {})
    assert type(build(name, [parameter()])).__name__ == record.torch_class


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("sgd", {}, 1 - 0.1 * 1 + 0.1 * 0.5 - 0.1 * 0.25),
        # g + λθ: 1.5, then -0.5 + 0.425, then 0.25 + 0.42875
        ("sgd", {"weight_decay": 0.5}, 1 - 0.15 + 0.0075 - 0.067875),
        # v: 1, 0.9 - 0.5 = 0.4, 0.36 + 0.25 = 0.61
        ("momentum", {}, 1 - 0.1 - 0.04 - 0.061),
        # v: 1 (the first is not dampened), 0.5 - 0.25 = 0.25, 0.125 + 0.125 = 0.25
        ("momentum", {"momentum": 0.5, "dampening": 0.5}, 1 - 0.1 - 0.025 - 0.025),
        # g + 0.9 v, v as for momentum: 1.9, -0.5 + 0.36 = -0.14, 0.25 + 0.549 = 0.799
        ("nesterov", {}, 1 - 0.19 + 0.014 - 0.0799),
        # m̂: 1, 0, 1/7; v̂: 1, irrelevant, 1/4
        ("adam", {"betas": [0.5, 0.5], "eps": 0}, 1 - 0.1 - 0 - 0.1 / 7 / 0.5),
        # the same steps, the weight shrinking by 0.95 before each
        (
            "adamw",
            {"betas": [0.5, 0.5], "eps": 0, "weight_decay": 0.5},
            ((1 * 0.95 - 0.1) * 0.95 - 0) * 0.95 - 0.1 / 7 / 0.5,
        ),
        # the average of squares: 0.5, 0.375, 0.21875
        (
            "rmsprop",
            {"alpha": 0.5, "eps": 0},
            1 - 0.1 / math.sqrt(0.5) + 0.05 / math.sqrt(0.375) - 0.025 / math.sqrt(0.21875),
        ),
        # the sum of squares: 1, 1.25, 1.3125
        (
            "adagrad",
            {"eps": 0},
            1 - 0.1 + 0.05 / math.sqrt(1.25) - 0.025 / math.sqrt(1.3125),
        ),
    ],
)
def test_three_steps_worked_by_hand(name, options, expected) -> None:
    assert stepped(name, [1.0, -0.5, 0.25], **options) == pytest.approx(expected, rel=1e-12)


def test_radam_begins_as_plain_momentum_while_the_variance_is_unknown() -> None:
    # ρₜ ≤ 5 for the first steps: the update is lr·m̂, and m̂ of a constant gradient is that gradient
    assert stepped("radam", [2.0, 2.0, 2.0]) == pytest.approx(1 - 3 * 0.2, rel=1e-12)


def test_nadam_first_step_looks_ahead() -> None:
    # μ₁ = β₁(1 − 0.5·0.96^ψ), μ₂ = β₁(1 − 0.5·0.96^2ψ); the step is μ₂m/(1−μ₁μ₂) + (1−μ₁)g/(1−μ₁)
    mu1, mu2 = (0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2))
    step = mu2 * 0.1 * 2 / (1 - mu1 * mu2) + (1 - mu1) * 2 / (1 - mu1)
    # torch keeps the product of μ in float32
    assert stepped("nadam", [2.0], eps=0) == pytest.approx(1 - 0.1 * step / 2, rel=1e-7)


@pytest.mark.parametrize("name", OWN + RESOLVED)
def test_keeps_the_contract(name) -> None:
    # Rprop has a step size for each weight instead: lr is only its first value.
    lacks = "another lr in its param_groups changes nothing" if name == "Rprop" else ""
    info = DataInfo(Task.REGRESSION, (4,))
    for options in find_component(Optimizer, name).tiny:
        choice = Choice.of("optimizers", {"name": name, **options})
        stacked = "its trials train one by one" if name == "LBFGS" else ""
        assert_keeps_contract(choice, info, notes=stacked, lacks=lacks)


@pytest.mark.parametrize("name", OWN + RESOLVED)
def test_reduces_a_quadratic(name) -> None:
    x = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64))
    curvature = torch.tensor([[1.0, 0.1], [3.0, 0.5]], dtype=torch.float64)
    optimizer = build(name, [x], lr=1.0 if name == "Adadelta" else 0.05)

    def loss():
        return (curvature * x.square()).sum() / 2

    def evaluate():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    before = loss().item()
    for _ in range(5 if name == "LBFGS" else 200):
        optimizer.step(evaluate)
    assert loss().item() < 0.8 * before


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize(
    "options", [{}, {"betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.1}, {"amsgrad": True}]
)
def test_the_fused_kernel_computes_what_the_plain_loop_does(name, options) -> None:
    record = find_component(Optimizer, name)
    plain = class_of_torch(record)
    chance = torch.Generator().manual_seed(0)

    def draw(shape):
        return torch.randn(shape, generator=chance, dtype=torch.float64)

    shapes = [(7, 5), (13,), ()]
    start = [draw(shape) for shape in shapes]
    ours = [torch.nn.Parameter(value.clone()) for value in start]
    theirs = [torch.nn.Parameter(value.clone()) for value in start]
    pair = (build(name, ours, **options), plain(theirs, lr=0.1, foreach=False, **options))
    assert pair[0].param_groups[0]["fused"] is True
    for step in range(50):
        gradients = [draw(shape) for shape in shapes]
        for optimizer, tensors in zip(pair, (ours, theirs), strict=True):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step % 7)
            for tensor, gradient in zip(tensors, gradients, strict=True):
                tensor.grad = gradient.clone()
            optimizer.step()
    for mine, reference, value in zip(ours, theirs, start, strict=True):
        assert not torch.equal(mine, value)
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=0)


def test_fused_only_where_the_kernel_supports_it() -> None:
    real, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    elsewhere, imaginary = torch.zeros(1, device="meta"), torch.zeros(1, dtype=torch.complex64)
    assert fused([real, double]) is True
    assert fused([real, elsewhere]) is None
    assert fused([real, imaginary]) is None


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_complex_parameter_still_trains(name) -> None:
    z = torch.nn.Parameter(torch.tensor([1 + 1j]))
    optimizer = build(name, (p for p in [z]))
    z.grad = torch.tensor([1 + 0j])
    optimizer.step()
    assert z.real.item() < 1


@settings(deadline=None)  # the first use of torch imports what it lacks
@given(
    betas=st.lists(st.floats(-1, 2) | st.sampled_from([0.0, 1.0]), max_size=3),
    eps=st.floats(-1, 1),
    weight_decay=st.floats(-1, 1),
)
@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "radam"])
def test_refuses_what_torch_refuses(name, betas, eps, weight_decay) -> None:
    record = find_component(Optimizer, name)
    options = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
    cls = class_of_torch(record)
    try:
        cls([parameter()], **options)
        good = len(betas) == 2
    except (ValueError, IndexError):
        good = False
    try:
        record.options.model_validate(options)
        accepted = True
    except ValidationError:
        accepted = False
    assert accepted == good


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("momentum", {"momentum": 1.0}),
        ("momentum", {"momentum": -0.1}),
        ("momentum", {"dampening": 1.5}),
        ("nesterov", {"momentum": 0.0}),
        ("nesterov", {"dampening": 0.0}),
        ("rmsprop", {"alpha": 1.0}),
        ("adam", {"decoupled_weight_decay": True}),
        ("adam", {"maximize": True}),
        ("adam", {"fused": False}),
        ("adam", {"lr": 0.1}),
        ("Adadelta", {"rho": 1.5}),
        ("Adadelta", {"foreach": True}),
        ("Adadelta", {"rho": "0.9"}),
        ("Rprop", {"etas": [0.5, 0.9]}),
        ("Rprop", {"etas": [0.5]}),
    ],
)
def test_refused_options(name, options) -> None:
    with pytest.raises(ValidationError):
        find("optimizers", name).options.model_validate(options)


def test_the_reason_of_a_range_is_torchs_own() -> None:
    with pytest.raises(ValidationError, match=r"Invalid rho value: 1\.5"):
        find("optimizers", "Adadelta").options.model_validate({"rho": 1.5})


def test_every_torch_class_is_accounted_for() -> None:
    classes = {
        name
        for name, found in vars(torch.optim).items()
        if isinstance(found, type) and issubclass(found, torch.optim.Optimizer)
    }
    assert {"Optimizer"} | REGISTERED | set(OTHERS) == classes
    assert {registered(Optimizer)[name].torch_class for name in OF_TORCH} == REGISTERED


@pytest.mark.parametrize("name", RESOLVED)
def test_a_class_by_its_name(name) -> None:
    record = find_component(Optimizer, name)
    assert (record.name, record.torch_class) == (name, name)
    assert type(build(name, [parameter()])) is getattr(torch.optim, name)
    assert find("optimizers", name) is record


def test_options_of_a_class_by_its_name() -> None:
    [group] = build("Adafactor", [parameter([[1.0]])], eps=[None, 1], d=2).param_groups
    assert (group["eps"], group["d"], group["beta2_decay"]) == ((None, 1.0), 2.0, -0.8)


def test_spelling_out_a_default_changes_nothing() -> None:
    # torch writes 0 and 50 where it means 0.0 and 50.0; an id hashes JSON, which tells them apart.
    implicit = Choice.of("optimizers", {"name": "Rprop"})
    explicit = Choice.of("optimizers", {"name": "Rprop", "step_sizes": [1e-6, 50.0]})
    assert str(implicit.resolved()) == str(explicit.resolved())
    assert str(Choice.of("optimizers", {"name": "ASGD"}).resolved()["weight_decay"]) == "0.0"


def test_a_class_by_its_name_crosses_processes() -> None:
    choice = Choice.of("optimizers", {"name": "Adadelta", "rho": 0.5})
    assert pickle.loads(pickle.dumps(choice)) == choice


@pytest.mark.parametrize("name", [*sorted(REGISTERED), "ADAM", "Sgd"])
def test_a_registered_optimizer_has_one_name(name) -> None:
    with pytest.raises(UnknownComponent, match=f"did you mean '{name.lower()}'"):
        find("optimizers", name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lbfgs", "did you mean 'LBFGS'"),
        ("SparseAdam", "sparse gradients"),
        ("Muon", "matrices only"),
    ],
)
def test_an_unsupported_class_is_refused_with_the_reason(name, reason) -> None:
    with pytest.raises(InputError, match=reason):
        find("optimizers", name)


@pytest.mark.parametrize(("name", "spelled"), [("adadelta", "Adadelta"), ("Asgd", "ASGD")])
def test_another_spelling_of_a_class_is_corrected(name, spelled) -> None:
    with pytest.raises(InputError, match=f"did you mean '{spelled}'"):
        find("optimizers", name)


@pytest.mark.parametrize("name", ["Optimizer", "Adamm", "adamm", "lr_scheduler", "Any", ""])
def test_what_is_no_optimizer_is_unknown(name) -> None:
    with pytest.raises(UnknownComponent):
        find("optimizers", name)


def test_a_typo_of_a_registered_name_does_not_import_torch() -> None:
    program = (
        "import sys\n"
        "from harness.core.errors import InputError\n"
        "from harness.components.registry import find\n"
        "for name in ('adamm', 'adadelta', 'Adam'):\n"
        "    try: find('optimizers', name)\n"
        "    except InputError: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
