"""Metrics against scikit-learn's, on cases with ties, absent classes and one class alone."""

from __future__ import annotations

import math
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn import metrics as reference

from harness.components.base import DataInfo, Metric, Task
from harness.components.metrics import regression
from harness.components.metrics.classification import confusion_matrices
from harness.components.metrics.roc_auc import log_odds
from harness.components.shared.metrics import median_classes, predicted_classes
from harness.experiment.trial import Choice
from tests.support import assert_keeps_contract, registered

METRICS = registered(Metric)
SETTINGS = settings(max_examples=80, deadline=None)


def measure(name: str, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return METRICS[name].compute(outputs, targets)


@st.composite
def classifications(draw, fewest=1, most=8):
    """Logits [N, O] and targets [N]. Logits are few whole numbers, so that ties abound."""
    outputs = draw(st.integers(fewest, most))
    n = draw(st.integers(1, 30))
    logits = draw(st.lists(st.integers(-3, 3), min_size=n * outputs, max_size=n * outputs))
    classes = draw(st.lists(st.integers(0, max(outputs, 2) - 1), min_size=1, unique=True))
    targets = draw(st.lists(st.sampled_from(classes), min_size=n, max_size=n))
    return torch.tensor(logits).float().reshape(n, outputs), torch.tensor(targets)


@st.composite
def regressions(draw):
    targets = draw(st.integers(1, 3))
    n = draw(st.integers(2, 30))
    values = st.floats(-100, 100, width=32)
    both = draw(st.lists(values, min_size=2 * n * targets, max_size=2 * n * targets))
    return torch.tensor(both).float().reshape(2, n, targets).unbind()


@st.composite
def labellings(draw):
    """Logits and labels, [N, L] each."""
    labels = draw(st.integers(1, 4))
    n = draw(st.integers(1, 20))
    logits = draw(st.lists(st.integers(-3, 3), min_size=n * labels, max_size=n * labels))
    true = draw(st.lists(st.booleans(), min_size=n * labels, max_size=n * labels))
    return (torch.tensor(values).float().reshape(n, labels) for values in (logits, true))


@st.composite
def counts(draw):
    """Expected counts above 0 and counts, [N, T] each."""
    targets = draw(st.integers(1, 3))
    n = draw(st.integers(1, 20))
    expected = st.floats(0.125, 100, width=32)
    both = [
        draw(st.lists(of, min_size=n * targets, max_size=n * targets))
        for of in (expected, st.integers(0, 50))
    ]
    return (torch.tensor(values).float().reshape(n, targets) for values in both)


def cases_of(metric: Metric) -> st.SearchStrategy[tuple[torch.Tensor, torch.Tensor]]:
    """Outputs and targets of a task of the metric's."""
    if metric.tasks & {Task.MULTICLASS, Task.ORDINAL}:
        return classifications(fewest=6 if metric.name == "top5" else 1)
    if Task.MULTILABEL in metric.tasks:
        return labellings()
    return regressions() if Task.REGRESSION in metric.tasks else counts()


def predicted(outputs: torch.Tensor) -> np.ndarray:
    """By numpy, whose argmax takes the first of equals."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).numpy().astype(int)
    classes: np.ndarray = outputs.numpy().argmax(1)
    return classes


@SETTINGS
@given(classifications())
def test_accuracy_is_scikit_learns(case) -> None:
    outputs, targets = case
    expected = reference.accuracy_score(targets, predicted(outputs))
    assert measure("accuracy", outputs, targets) == pytest.approx(expected)


@SETTINGS
@given(classifications(fewest=6))
def test_top5_is_scikit_learns(case) -> None:
    """scikit-learn ranks the last of equals first, so it is asked with the classes turned about."""
    outputs, targets = case
    classes = outputs.shape[1]
    expected = reference.top_k_accuracy_score(
        classes - 1 - targets, outputs.flip(1), k=5, labels=range(classes)
    )
    assert measure("top5", outputs, targets) == pytest.approx(expected)


def test_top5_of_equal_logits_is_not_perfect() -> None:
    outputs, targets = torch.zeros(10, 10), torch.arange(10)
    assert measure("top5", outputs, targets) == 0.5


@SETTINGS
@given(classifications())
def test_precision_recall_and_f1_are_scikit_learns(case) -> None:
    outputs, targets = case
    *expected, _ = reference.precision_recall_fscore_support(
        targets, predicted(outputs), average="macro", zero_division=0
    )
    found = [measure(name, outputs, targets) for name in ("precision", "recall", "f1")]
    assert found == pytest.approx(expected)


@SETTINGS
@given(classifications())
def test_roc_auc_is_scikit_learns(case) -> None:
    outputs, targets = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", reference._ranking.UndefinedMetricWarning)
        expected = expected_auc(outputs, targets)
    assert measure("roc_auc", outputs, targets) == pytest.approx(expected, nan_ok=True)


def expected_auc(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    if outputs.shape[1] == 1:
        return one_auc(targets == 1, outputs[:, 0])
    if outputs.shape[1] == 2:
        return one_auc(targets == 1, outputs[:, 1] - outputs[:, 0])
    # Rounded, so that equal probabilities of other logits are equal.
    p = outputs.double().softmax(1).numpy().round(12)
    return float(np.mean([one_auc(targets == c, p[:, c]) for c in range(outputs.shape[1])]))


def one_auc(positive, score) -> float:
    if bool(positive.all()) or not bool(positive.any()):
        return math.nan
    return float(reference.roc_auc_score(positive, score))


def test_roc_auc_is_scikit_learns_one_versus_rest() -> None:
    chance = torch.Generator().manual_seed(0)
    outputs = torch.randn(200, 4, generator=chance)
    targets = torch.randint(4, (200,), generator=chance)
    expected = reference.roc_auc_score(
        targets, outputs.double().softmax(1), multi_class="ovr", average="macro"
    )
    assert measure("roc_auc", outputs, targets) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_roc_auc_tells_apart_what_rounds_to_certainty(classes) -> None:
    """All probabilities are 1 in single precision, half of what is left of them is 0 in double,
    and the wrong ones are the least certain."""
    logits = torch.zeros(4, classes)
    logits[:, -1] = torch.tensor([200.0, 300.0, 900.0, 5000.0])
    targets = torch.tensor([0, 0, 1, 1]) * max(classes - 1, 1)
    score = log_odds(logits)[:, -1]
    assert (score.diff() > 0).all()
    if classes < 3:
        assert measure("roc_auc", logits, targets) == 1


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.zeros(3, 1), torch.tensor([1, 1, 1])),
        (torch.zeros(3, 2), torch.tensor([0, 0, 0])),
        (torch.eye(3), torch.tensor([0, 1, 1])),
    ],
)
def test_roc_auc_is_undefined_where_a_class_is_absent(outputs, targets) -> None:
    assert math.isnan(measure("roc_auc", outputs, targets))


@SETTINGS
@given(regressions())
def test_errors_are_scikit_learns(case) -> None:
    outputs, targets = case
    wanted, given_ = targets.double().numpy(), outputs.double().numpy()
    expected = {
        "mse": reference.mean_squared_error(wanted, given_),
        "rmse": reference.root_mean_squared_error(wanted, given_),
        "mae": reference.mean_absolute_error(wanted, given_),
    }
    for name, value in expected.items():
        assert measure(name, outputs, targets) == pytest.approx(value)


@SETTINGS
@given(regressions())
def test_r2_is_scikit_learns_and_undefined_for_constant_targets(case) -> None:
    outputs, targets = case
    found = measure("r2", outputs, targets)
    if (targets == targets[0]).all(0).any():
        assert math.isnan(found)
    else:
        expected = reference.r2_score(targets.double(), outputs.double(), force_finite=False)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["mse", "rmse", "mae", "r2"])
def test_targets_of_another_shape_are_refused_not_broadcast(name) -> None:
    with pytest.raises(ValueError, match=r"outputs \[5, 1\] and targets \[5\] differ"):
        measure(name, torch.zeros(5, 1), torch.zeros(5))


PAIRS = [(name, task) for name, metric in METRICS.items() for task in sorted(metric.tasks)]


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_keeps_the_contract(name, task) -> None:
    labels = tuple("abcdef") if task is not Task.BINARY else ("no", "yes")
    classes = labels if task.is_classification or task is Task.MULTILABEL else ()
    info = DataInfo(task, (6,), classes, targets=1 if task.is_classification else 6)
    assert_keeps_contract(Choice(METRICS[name], METRICS[name].options()), info)


def test_each_task_has_metrics_it_records_by_default() -> None:
    defaults = {
        task: {name for name, metric in METRICS.items() if task in metric.default_for}
        for task in Task
    }
    assert defaults == {
        Task.MULTICLASS: {"accuracy"},
        Task.BINARY: {"accuracy"},
        Task.ORDINAL: {"qwk", "rank_mae"},
        Task.MULTILABEL: {"mean_average_precision", "micro_f1"},
        Task.REGRESSION: {"r2", "rmse"},
        Task.COUNT: {"mae", "rmse"},
        Task.AUTOENCODING: {"mse"},
    }
    assert all(metric.default_for <= metric.tasks for metric in METRICS.values())


# Labels


@SETTINGS
@given(labellings())
def test_metrics_of_labels_are_scikit_learns(case) -> None:
    outputs, targets = case
    true, found = targets.numpy(), (outputs > 0).numpy()
    if true.shape[1] == 1:  # scikit-learn takes one column as two classes.
        true, found = (np.concatenate([values, values], 1) for values in (true, found))
        outputs, targets = outputs.repeat(1, 2), targets.repeat(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macro = reference.precision_recall_fscore_support(
            true, found, average="macro", zero_division=0
        )
        expected = {
            **dict(zip(("precision", "recall", "f1"), macro, strict=False)),
            "micro_f1": reference.f1_score(true, found, average="micro", zero_division=0),
            "subset_accuracy": reference.accuracy_score(true, found),
            "label_accuracy": 1 - reference.hamming_loss(true, found),
            "mean_average_precision": np.mean(
                [
                    reference.average_precision_score(t, s)
                    for t, s in zip(true.T, outputs.T, strict=True)
                ]
            ),
            "roc_auc": np.mean(
                [one_auc(targets[:, c] > 0, outputs[:, c]) for c in range(true.shape[1])]
            ),
        }
    for name, value in expected.items():
        assert measure(name, outputs, targets) == pytest.approx(value, nan_ok=True), name


def test_every_metric_of_labels_is_compared() -> None:
    names = {name for name, metric in METRICS.items() if Task.MULTILABEL in metric.tasks}
    assert names == {
        *("precision", "recall", "f1", "micro_f1", "subset_accuracy", "label_accuracy"),
        *("mean_average_precision", "roc_auc"),
    }


# Ordered classes and counts


@SETTINGS
@given(classifications(fewest=2))
def test_metrics_of_ranks_are_scikit_learns(case) -> None:
    outputs, targets = case
    below = outputs.double().softmax(1).cumsum(1)[:, :-1].numpy()
    ranks = (below < 0.5 - 1e-6).sum(1)
    labels = range(outputs.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = reference.cohen_kappa_score(targets, ranks, labels=labels, weights="quadratic")
    assert measure("qwk", outputs, targets) == pytest.approx(kappa, nan_ok=True, abs=1e-12)
    mae = reference.mean_absolute_error(targets, ranks)
    assert measure("rank_mae", outputs, targets) == pytest.approx(mae)
    accuracy = reference.accuracy_score(targets, ranks)
    assert measure("rank_accuracy", outputs, targets) == pytest.approx(accuracy)


def test_the_median_of_ordered_classes_need_not_be_the_likeliest() -> None:
    logits = torch.tensor([[0.4, 0.3, 0.3], [0.5, 0.0, 0.5], [0.1, 0.1, 0.8]]).log()
    assert median_classes(logits[None])[0].tolist() == [1, 0, 2]


@SETTINGS
@given(counts())
def test_poisson_deviance_is_scikit_learns(case) -> None:
    outputs, targets = case
    each = [
        reference.mean_poisson_deviance(t, o)
        for t, o in zip(targets.double().T, outputs.double().T, strict=True)
    ]
    assert measure("poisson_deviance", outputs, targets) == pytest.approx(np.mean(each), abs=1e-9)


def test_poisson_deviance_is_undefined_for_expected_counts_of_zero_or_less() -> None:
    targets = torch.ones(2, 1)
    for expected in (0.0, -1.0):
        outputs = torch.tensor([[expected], [1.0]])
        assert math.isnan(measure("poisson_deviance", outputs, targets))


@pytest.mark.parametrize("name", ["mae", "mse"])
def test_errors_of_many_values_are_summed_in_parts(name, monkeypatch) -> None:
    outputs, targets = torch.randn(2, 3, 11, 4)
    metric = METRICS[name].stacked
    assert metric is not None
    expected = metric(outputs, targets)
    monkeypatch.setattr(regression, "AT_ONCE", 50)
    torch.testing.assert_close(metric(outputs, targets), expected)


# What metrics share


@SETTINGS
@given(classifications())
def test_confusion_matrix_is_scikit_learns(case) -> None:
    outputs, targets = case
    classes = max(outputs.shape[1], 2)
    expected = reference.confusion_matrix(targets, predicted(outputs), labels=range(classes))
    (matrix,) = confusion_matrices(outputs[None], targets[None])
    assert np.array_equal(matrix.numpy(), expected)
    assert matrix.dtype == torch.int64


@SETTINGS
@given(classifications())
def test_the_predicted_class_is_the_likeliest(case) -> None:
    outputs, _ = case
    logits = torch.cat([-outputs, outputs], 1) / 2 if outputs.shape[1] == 1 else outputs
    p = logits.softmax(1)
    chosen = p.gather(1, predicted_classes(outputs)[:, None])
    assert torch.allclose(chosen, p.max(1, keepdim=True).values)


def test_outputs_whose_sum_overflows_are_measured_and_those_that_are_not_finite_are_not() -> None:
    large = torch.finfo(torch.float32).max
    outputs = torch.tensor([[large, 1.0], [large, 2.0]]).repeat(4, 1, 1)
    outputs[1, 0, 1], outputs[2, 1, 0], outputs[3, 1] = math.nan, math.inf, -math.inf
    targets = torch.zeros(4, 2, dtype=torch.int64)
    stacked = METRICS["accuracy"].stacked
    assert stacked is not None
    found = stacked(outputs, targets)
    assert found[0] == 1
    assert found[1:].isnan().all()


def test_one_logit_is_the_log_odds_of_class_one() -> None:
    logits = torch.tensor([[-40.0], [0.0], [2.0]])
    assert log_odds(logits).tolist() == [[40.0, -40.0], [0.0, 0.0], [-2.0, 2.0]]
    assert predicted_classes(logits).tolist() == [0, 0, 1]


@SETTINGS
@given(st.data())
@pytest.mark.parametrize("name", METRICS)
def test_stacked_agrees_with_compute(name, data) -> None:
    metric = METRICS[name]
    if metric.stacked is None:
        pytest.skip("computed model by model")
    outputs, targets = data.draw(cases_of(metric))
    places = torch.randperm(len(targets), generator=torch.Generator().manual_seed(len(targets)))
    many = torch.stack([outputs, outputs[places], torch.full_like(outputs, torch.nan)])
    wanted = torch.stack([targets, targets, targets])
    found = metric.stacked(many, wanted).tolist()
    alone = [metric.compute(*pair) for pair in zip(many, wanted, strict=True)]
    assert found == pytest.approx(alone, rel=1e-12, nan_ok=True)
    assert math.isnan(found[2])
