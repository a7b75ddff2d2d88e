"""The contract of losses, run over every registered one, and each against torch's own."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.nn import functional

from harness.components.base import DataInfo, Loss, Task
from harness.components.losses.classification import FEW_CLASSES, MANY_EXAMPLES
from harness.components.shared.metrics import median_classes
from harness.experiment.trial import Choice
from tests.support import assert_keeps_contract, registered

INFOS = {
    Task.MULTICLASS: DataInfo(Task.MULTICLASS, (6,), ("a", "b", "c", "d")),
    Task.BINARY: DataInfo(Task.BINARY, (6,), ("no", "yes")),
    Task.ORDINAL: DataInfo(Task.ORDINAL, (6,), ("low", "middle", "high", "top")),
    Task.MULTILABEL: DataInfo(Task.MULTILABEL, (6,), ("a", "b", "c"), targets=3),
    Task.REGRESSION: DataInfo(Task.REGRESSION, (6,), targets=3),
    Task.COUNT: DataInfo(Task.COUNT, (6,), targets=3),
    Task.AUTOENCODING: DataInfo(Task.REGRESSION, (6,), ("a", "b")).for_task("autoencoding"),
}
EXAMPLES = 5


def choose(name: str, **options: object) -> Choice[Loss]:
    return Choice.of("losses", {"name": name, **options})


def make(name: str, **options: object):
    choice = choose(name, **options)
    return choice.component.build(choice.options)


def outputs_and_targets(choice: Choice[Loss], task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, outputs] float64 and targets as training gives them."""
    generator = torch.Generator().manual_seed(0)
    info = INFOS[task]
    width = choice.component.outputs(info)
    outputs = 2 * torch.randn(EXAMPLES, width, generator=generator, dtype=torch.float64)
    if task.is_classification:
        return outputs, torch.randint(info.classes, (EXAMPLES,), generator=generator)
    targets = torch.randn(EXAMPLES, info.targets, generator=generator, dtype=torch.float64)
    if task is Task.MULTILABEL:
        targets = (targets > 0).double()
    elif task is Task.COUNT:
        targets = (3 * targets).abs().floor()
    return outputs, targets


CASES = [
    pytest.param(choose(loss.name, **tiny), task, id=f"{choose(loss.name, **tiny).label}-{task}")
    for loss in registered(Loss).values()
    for tiny in loss.tiny
    for task in sorted(loss.tasks)
]


@pytest.mark.parametrize("task", list(Task))
def test_each_task_has_one_default(task) -> None:
    defaults = [loss for loss in registered(Loss).values() if task in loss.default_for]
    assert len(defaults) == 1
    assert task in defaults[0].tasks


@pytest.mark.parametrize(("choice", "task"), CASES)
def test_keeps_the_contract(choice, task) -> None:
    assert_keeps_contract(choice, INFOS[task])


@pytest.mark.parametrize(("choice", "task"), CASES)
def test_gives_one_finite_value_for_each_example(choice, task) -> None:
    outputs, targets = outputs_and_targets(choice, task)
    losses = choice.component.build(choice.options)(outputs, targets)
    assert losses.shape == (EXAMPLES,)
    assert losses.isfinite().all()
    assert (losses >= 0).all()


@pytest.mark.parametrize(("choice", "task"), CASES)
def test_an_example_has_no_part_in_anothers_loss(choice, task) -> None:
    loss = choice.component.build(choice.options)
    outputs, targets = outputs_and_targets(choice, task)
    alone = torch.cat([loss(outputs[i : i + 1], targets[i : i + 1]) for i in range(EXAMPLES)])
    torch.testing.assert_close(loss(outputs, targets), alone)


@pytest.mark.parametrize(("choice", "task"), CASES)
def test_gradient_is_the_losss_slope(choice, task) -> None:
    loss = choice.component.build(choice.options)
    outputs, targets = outputs_and_targets(choice, task)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), outputs.requires_grad_())


@pytest.mark.parametrize(("choice", "task"), CASES)
def test_what_is_not_a_number_stays_so(choice, task) -> None:
    """Else a trial that diverged would be taken for one that learned."""
    loss = choice.component.build(choice.options)
    outputs, targets = outputs_and_targets(choice, task)
    outputs[1] = math.nan
    assert loss(outputs, targets).isnan().tolist() == [i == 1 for i in range(EXAMPLES)]


@pytest.mark.parametrize(("choice", "task"), CASES)
def test_float32_as_training_gives_it(choice, task) -> None:
    loss = choice.component.build(choice.options)
    outputs, targets = outputs_and_targets(choice, task)
    expected = loss(outputs, targets)
    targets = targets if task.is_classification else targets.float()
    single = loss(outputs.float(), targets)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("choice", "torch_loss"),
    [
        (choose("cross_entropy"), functional.cross_entropy),
        (
            choose("cross_entropy", label_smoothing=0.1),
            lambda z, t: functional.cross_entropy(z, t, label_smoothing=0.1),
        ),
        (choose("nll"), functional.cross_entropy),
        (
            choose("softmax_twice"),
            lambda z, t: functional.cross_entropy(functional.softmax(z, 1), t),
        ),
        (choose("perceptron"), lambda z, t: _multi_margin(z, t)),
    ],
    ids=lambda value: value.label if isinstance(value, Choice) else "",
)
def test_mean_over_examples_is_torchs_for_classes(choice, torch_loss) -> None:
    outputs, targets = outputs_and_targets(choice, Task.MULTICLASS)
    losses = choice.component.build(choice.options)(outputs, targets)
    torch.testing.assert_close(losses.mean(), torch_loss(outputs, targets))


@pytest.mark.parametrize("classes", [2, FEW_CLASSES - 1, FEW_CLASSES])
@pytest.mark.parametrize("examples", [MANY_EXAMPLES - 1, MANY_EXAMPLES])
def test_cross_entropy_is_torchs_for_each_of_many_examples(classes: int, examples: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(examples, classes, generator=generator)
    targets = torch.randint(classes, (examples,), generator=generator)
    shares = torch.rand(examples, generator=generator)
    found = []
    for loss in (make("cross_entropy"), partial(functional.cross_entropy, reduction="none")):
        own = logits.clone().requires_grad_()
        losses = loss(own, targets)
        losses.backward(shares)
        found.append((losses.detach(), own.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-7)
    assert found[0][0].shape == (examples,)


def _multi_margin(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The perceptron criterion away from 0, by torch's hinge of margin 0 on each class alone."""
    signs = 2.0 * functional.one_hot(targets, logits.shape[1]) - 1
    each = functional.margin_ranking_loss(
        logits, torch.zeros_like(logits), signs, margin=0.0, reduction="none"
    )
    return each.sum(dim=1).mean()


@pytest.mark.parametrize(
    ("choice", "torch_loss"),
    [
        (choose("mse"), functional.mse_loss),
        (choose("l1"), functional.l1_loss),
        (choose("huber"), functional.huber_loss),
        (choose("huber", delta=0.5), lambda z, t: functional.huber_loss(z, t, delta=0.5)),
    ],
    ids=lambda value: value.label if isinstance(value, Choice) else "",
)
def test_mean_over_examples_is_torchs_for_regression(choice, torch_loss) -> None:
    outputs, targets = outputs_and_targets(choice, Task.REGRESSION)
    losses = choice.component.build(choice.options)(outputs, targets)
    torch.testing.assert_close(losses.mean(), torch_loss(outputs, targets))
    assert losses.unique().numel() == EXAMPLES


def test_bce_by_hand() -> None:
    """log(1 + e^−z) for class 1, log(1 + e^z) for class 0."""
    losses = make("bce")(torch.tensor([[0.0], [2.0], [2.0], [-200.0]]), torch.tensor([1, 1, 0, 1]))
    expected = [math.log(2), math.log1p(math.exp(-2)), math.log1p(math.exp(2)), 200.0]
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_two_classes_by_one_logit_or_two_cost_the_same() -> None:
    z = torch.tensor([[-1.5], [0.3], [4.0]])
    targets = torch.tensor([0, 1, 0])
    two = torch.cat([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(make("bce")(z, targets), make("cross_entropy")(two, targets))


def test_perceptron_by_hand() -> None:
    loss = make("perceptron")
    one = loss(torch.tensor([[2.0], [-3.0], [-3.0]]), torch.tensor([1, 1, 0]))
    torch.testing.assert_close(one, torch.tensor([0.0, 3.0, 0.0]))
    several = loss(torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([0]))
    torch.testing.assert_close(several, torch.tensor([1.0]))
    wrong = loss(torch.tensor([[2.0, 1.0, -4.0]]), torch.tensor([2]))
    torch.testing.assert_close(wrong, torch.tensor([7.0]))


def test_perceptron_updates_at_a_margin_of_zero() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    make("perceptron")(logits, torch.tensor([0, 2])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-1, 1, 1], [1, 1, -1]]


@pytest.mark.parametrize("classes", [2, 3])
def test_perceptron_learns_the_weights_that_scikit_learn_learns(classes) -> None:
    """One example at a time from zeros with a rate of 1: every update is the same."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import Perceptron

    inputs, targets = load_iris(return_X_y=True)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0)).numpy()
    order = order[targets[order] < classes]
    inputs, targets = inputs[order], targets[order]
    reference = Perceptron(shuffle=False, max_iter=3, tol=None).fit(inputs, targets)

    loss = make("perceptron")
    linear = torch.nn.Linear(4, 1 if classes == 2 else classes, dtype=torch.float64)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    optimizer = torch.optim.SGD(linear.parameters(), lr=1.0)
    for _ in range(3):
        for x, y in zip(torch.from_numpy(inputs), torch.from_numpy(targets), strict=True):
            optimizer.zero_grad()
            loss(linear(x.unsqueeze(0)), y.unsqueeze(0)).mean().backward()
            optimizer.step()
    torch.testing.assert_close(linear.weight.detach(), torch.from_numpy(reference.coef_))
    torch.testing.assert_close(linear.bias.detach(), torch.from_numpy(reference.intercept_))


def test_softmax_twice_has_a_floor_and_hardly_a_slope_where_it_is_sure_and_wrong() -> None:
    """What makes it a mistake: being right is not rewarded, being badly wrong not mended."""
    logits = torch.tensor([[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]], requires_grad=True)
    losses = make("softmax_twice")(logits, torch.tensor([0, 0]))
    assert losses[0].item() == pytest.approx(math.log(1 + 2 / math.e))
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-12
    plain = logits.detach().requires_grad_()
    make("cross_entropy")(plain, torch.tensor([0, 0])).sum().backward()
    assert plain.grad is not None
    assert plain.grad[1].abs().max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "options"),
    [("cross_entropy", {"label_smoothing": 1.0}), ("huber", {"delta": 0.0})],
)
def test_options_out_of_range_are_refused(name, options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        choose(name, **options)


@pytest.mark.parametrize(
    ("name", "task", "wanted"),
    [
        ("cross_entropy", Task.MULTICLASS, 4),
        ("cross_entropy", Task.BINARY, 2),
        ("bce", Task.BINARY, 1),
        ("nll", Task.BINARY, 2),
        ("perceptron", Task.MULTICLASS, 4),
        ("perceptron", Task.BINARY, 1),
        ("mse", Task.REGRESSION, 3),
        ("mse", Task.AUTOENCODING, 6),
        ("bce", Task.MULTILABEL, 3),
        ("cross_entropy", Task.ORDINAL, 4),
        ("corn", Task.ORDINAL, 3),
        ("coral", Task.ORDINAL, 3),
        ("poisson", Task.COUNT, 3),
    ],
)
def test_says_how_many_outputs_it_wants(name, task, wanted) -> None:
    assert choose(name).component.outputs(INFOS[task]) == wanted


# Labels, ordered classes, counts and reconstructions


def test_bce_of_labels_is_torchs() -> None:
    outputs, targets = outputs_and_targets(choose("bce"), Task.MULTILABEL)
    expected = functional.binary_cross_entropy_with_logits(outputs, targets)
    torch.testing.assert_close(make("bce")(outputs, targets).mean(), expected)


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (6, 1)])
def test_an_autoencoder_may_return_its_inputs_shape(shape) -> None:
    outputs, targets = outputs_and_targets(choose("mse"), Task.AUTOENCODING)
    shaped = outputs.view(EXAMPLES, *shape)
    torch.testing.assert_close(make("mse")(shaped, targets), make("mse")(outputs, targets))


def probabilities(name: str, logits: torch.Tensor) -> torch.Tensor:
    predict = choose(name).component.predict
    assert predict is not None
    return predict(logits).exp()


@pytest.mark.parametrize("name", ["corn", "coral"])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_ordered_classes_have_probabilities_whatever_the_logits(name, classes) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(3, 50, classes - 1, generator=generator)
    logits[0, 0], logits[0, 1] = 90.0, -90.0
    found = probabilities(name, logits)
    assert found.shape == (3, 50, classes)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 50))


def test_corn_is_the_likelihood_of_its_probabilities() -> None:
    outputs, targets = outputs_and_targets(choose("corn"), Task.ORDINAL)
    expected = -probabilities("corn", outputs).log().gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(make("corn")(outputs, targets), expected)


def test_corn_and_coral_by_hand() -> None:
    """Class 1 of 3: above 0 and not above 1. For class 0, CORN asks for one border."""
    logits = torch.tensor([[0.5, -1.0], [0.5, -1.0]], dtype=torch.float64)
    below, above = math.log1p(math.exp(0.5)), math.log1p(math.exp(-0.5))
    not_second = math.log1p(math.exp(-1.0))
    targets = torch.tensor([1, 0])
    corn = [above + not_second, below]
    coral = [above + not_second, below + not_second]
    torch.testing.assert_close(make("corn")(logits, targets), torch.tensor(corn).double())
    torch.testing.assert_close(make("coral")(logits, targets), torch.tensor(coral).double())


def test_corals_median_counts_the_logits_above_zero_in_any_order() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(200, 4, generator=generator)
    found = median_classes(probabilities("coral", logits).log().unsqueeze(0))[0]
    assert found.tolist() == (logits > 0).sum(1).tolist()


def test_two_ordered_classes_cost_what_two_classes_do() -> None:
    z, targets = torch.tensor([[-1.5], [0.3], [4.0]]), torch.tensor([0, 1, 0])
    for name in ("corn", "coral"):
        torch.testing.assert_close(make(name)(z, targets), make("bce")(z, targets))


def test_poisson_is_torchs_distribution() -> None:
    outputs, targets = outputs_and_targets(choose("poisson"), Task.COUNT)
    expected = -torch.distributions.Poisson(outputs.exp()).log_prob(targets).mean(1)
    torch.testing.assert_close(make("poisson")(outputs, targets), expected)


@pytest.mark.parametrize("dispersion", [0.05, 1.0, 7.0])
def test_negative_binomial_is_scipys_distribution(dispersion) -> None:
    from scipy.stats import nbinom

    outputs, targets = outputs_and_targets(choose("negative_binomial"), Task.COUNT)
    mean, size = outputs.exp().numpy(), 1 / dispersion
    expected = -nbinom.logpmf(targets.numpy(), size, size / (size + mean)).mean(1)
    found = make("negative_binomial", dispersion=dispersion)(outputs, targets)
    torch.testing.assert_close(found, torch.from_numpy(expected))


def test_counts_are_predicted_by_their_expectation() -> None:
    for name in ("poisson", "negative_binomial"):
        predict = choose(name).component.predict
        assert predict is not None
        torch.testing.assert_close(
            predict(torch.tensor([[0.0, 1.0]])).log(), torch.tensor([[0.0, 1]])
        )
