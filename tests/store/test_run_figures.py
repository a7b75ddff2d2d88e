from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from sklearn import metrics
from sklearn.metrics import auc, roc_curve

from harness.components.base import DataInfo, Task
from harness.core.records import Measured, TestOutputs
from harness.store.artifacts.figures import (
    FigureData,
    FigureLine,
    Predictions,
    class_probabilities,
    confusion_matrix,
    draw,
    epoch_curves,
    image_grid,
    plain,
    predicted_over_true,
    predictions,
    roc_curves,
)

HISTORY = (
    Measured(0, {"val/loss": 2.0, "val/accuracy": 0.1, "lr": 0.1, "time/train_s": 0.0}, 0),
    Measured(1, {"train/loss": 1.0, "lr": 0.1}, 10),
    Measured(2, {"train/loss": 0.5, "val/loss": 0.7, "val/accuracy": 0.8, "lr": 0.1}, 20),
)


def made(classes: int = 3, n: int = 40, seed: int = 0) -> Predictions:
    """Predictions of classes, right about half the time; scores have ties."""
    chance = np.random.default_rng(seed)
    true = np.arange(n) % classes
    logits = np.round(chance.normal(size=(n, classes)) + 1.2 * np.eye(classes)[true], 1)
    probabilities = class_probabilities(logits)
    names = tuple(f"class {number}" for number in range(classes))
    return Predictions(true, probabilities.argmax(axis=1), probabilities, names)


def test_curves_hold_what_was_measured_split_by_split() -> None:
    found = epoch_curves("mlp", HISTORY)
    assert list(found) == ["loss", "accuracy"]
    assert found["loss"].lines == (
        FigureLine("train", (1.0, 2.0), (1.0, 0.5)),
        FigureLine("val", (0.0, 2.0), (2.0, 0.7)),
    )
    assert found["loss"].title == "mlp\nloss over 2 epochs"
    assert found["accuracy"].quantity == "accuracy"


def test_probabilities_match_torch() -> None:
    logits = np.array([[1000.0, 0.0], [-3.0, 2.0]])
    expected = torch.softmax(torch.tensor(logits), dim=1).numpy()
    np.testing.assert_allclose(class_probabilities(logits), expected, rtol=1e-12)
    single = np.array([[0.0], [3.0], [-700.0]])
    right = torch.sigmoid(torch.tensor(single[:, 0])).numpy()
    np.testing.assert_allclose(class_probabilities(single)[:, 1], right, rtol=1e-12)


def test_one_logit_at_zero_is_class_0_as_in_the_metrics() -> None:
    info = DataInfo(Task.BINARY, (2,), ("no", "yes"))
    shown = TestOutputs({}, torch.tensor([[0.0], [0.1]]), torch.tensor([0, 1]), torch.zeros(2, 2))
    assert predictions(info, shown).predicted.tolist() == [0, 1]


def test_confusion_matches_scikit_learn() -> None:
    found = made(classes=4)
    record = confusion_matrix("mlp", found)
    expected = metrics.confusion_matrix(found.true, found.predicted, labels=range(4))
    np.testing.assert_array_equal(record.counts, expected)
    assert record.title == f"mlp\nconfusion on 40 test examples, accuracy {found.accuracy:.4f}"


@pytest.mark.parametrize("seed", range(5))
def test_roc_matches_scikit_learn(seed: int) -> None:
    found = made(seed=seed)
    assert found.probabilities is not None
    scores, positive = found.probabilities[:, 1], found.true == 1
    record = roc_curves("mlp", found)
    assert record is not None
    line = next(line for line in record.lines if line.name.startswith("class 1"))
    expected_x, expected_y, _ = roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(line.x, expected_x)
    np.testing.assert_allclose(line.y, expected_y)
    assert line.name == f"class 1 ({auc(expected_x, expected_y):.4f})"


def test_roc_of_two_classes_is_one_curve() -> None:
    record = roc_curves("mlp", made(classes=2))
    assert record is not None
    assert [line.name.split(" (")[0] for line in record.lines] == ["class 1"]


def test_roc_of_many_classes_shows_the_worst_and_says_so() -> None:
    record = roc_curves("mlp", made(classes=20))
    assert record is not None
    assert len(record.lines) == 10
    assert "the 10 of 20 classes with the smallest area" in record.title
    areas = [auc(line.x, line.y) for line in record.lines]
    assert areas == sorted(areas)


def test_roc_is_undefined_with_one_class() -> None:
    found = made(classes=2)
    alone = Predictions(np.ones(40, int), found.predicted, found.probabilities, found.classes)
    assert roc_curves("mlp", alone) is None


def test_each_target_has_its_scatter_plot() -> None:
    true = np.array([[1.0, 5.0], [2.0, 6.0]])
    predicted = true + np.array([[0.0, 3.0], [0.0, 4.0]])
    one, two = predicted_over_true("mlp", Predictions(true, predicted, None, ()))
    assert one.title.endswith("2 test examples, target 1 of 2, RMSE 0")
    assert two.title.endswith("target 2 of 2, RMSE 3.536")
    assert two.predicted.tolist() == [8.0, 10.0]


@pytest.mark.parametrize(("channels", "shape"), [(1, (24, 8, 8)), (3, (24, 8, 8, 3))])
def test_image_grid_marks_right_and_wrong_predictions(
    channels: int, shape: tuple[int, ...]
) -> None:
    images = np.random.default_rng(0).integers(0, 17, (30, channels, 8, 8)).astype(np.uint8)
    found = made()
    record = image_grid("mlp", found, images)
    assert record.images.shape == shape
    assert record.images.max() == 1.0
    wrong = record.right.index(False)
    assert record.captions[wrong] == (
        f"class {found.predicted[wrong]} (true: class {found.true[wrong]})"
    )
    assert f"the first 24 of 40 test images, {record.right.count(True)} right" in record.title


def test_image_grid_of_few_images() -> None:
    record = image_grid("mlp", made(), np.ones((5, 1, 4, 4), np.uint8))
    assert len(record.images) == len(record.captions) == len(record.right) == 5


def test_every_record_is_drawn_with_its_title_and_content() -> None:
    found = made(classes=12)
    images = np.ones((30, 1, 8, 8), np.uint8)
    values = np.linspace(0, 1, 10)[:, None]
    records: list[FigureData | None] = [
        epoch_curves("a $name_with_{odd} \\frac signs", HISTORY)["loss"],
        confusion_matrix("mlp", found),
        roc_curves("mlp", found),
        predicted_over_true("mlp", Predictions(values, values * 2, None, ()))[0],
        image_grid("mlp", found, images),
    ]
    for record in records:
        assert record is not None
        figure = draw(record)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=50)
        assert buffer.getvalue().startswith(b"\x89PNG")
        titles = [axes.get_title() for axes in figure.axes]
        titles += [figure.get_suptitle()]
        assert plain(record.title) in titles


def test_figures_show_the_data_of_their_record() -> None:
    loss = epoch_curves("mlp", HISTORY)["loss"]
    drawn = draw(loss).axes[0].get_lines()
    assert [line.get_label() for line in drawn] == ["train", "val"]
    assert np.asarray(drawn[0].get_ydata()).tolist() == [1.0, 0.5]
    counts = confusion_matrix("mlp", made())
    texts = {text.get_text() for text in draw(counts).axes[0].texts}
    assert texts == {str(count) for count in counts.counts.flat if count}
    images = image_grid("mlp", made(), np.ones((5, 1, 4, 4), np.uint8))
    shown = draw(images).axes
    assert [len(axes.get_images()) for axes in shown] == [1] * 5
    marks = {axes.get_title()[0] for axes in shown}
    assert marks <= {"✓", "✗"}


def test_lines_differ_without_colour() -> None:
    record = roc_curves("mlp", made(classes=9))
    assert record is not None
    drawn = draw(record).axes[0].get_lines()[1:]
    styles = [(line.get_color(), line.get_linestyle()) for line in drawn]
    assert len(set(styles)) == len(styles) == 9
