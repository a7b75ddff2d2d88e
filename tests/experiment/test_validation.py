"""Every rule of an experiment file: the error of a file that breaks it, and its place."""

from __future__ import annotations

import pytest

from tests.experiment.experiment_support import Load, Problems

GOOD = """\
trial:
  dataset: digits
  model: mlp
  optimizer: sgd
  lr: 0.1
"""


def test_five_mistakes_are_reported_at_once_each_with_its_line_and_closest_match(
    problems: Problems,
) -> None:
    found = problems(
        """\
        trail: {epochs: 1}
        trial:
          dataset: digitz
          epoch: 3
          batch_size: 0
        grid:
          model: [mlp]
          optimizer: [sgd, addam]
          lr: [0.1]
        """
    )
    assert [(p.where, p.what) for p in found] == [
        ("grid.yaml:1", "trail: unknown field"),
        ("grid.yaml:3", "trial.dataset: no 'digitz' is registered"),
        ("grid.yaml:4", "trial.epoch: unknown field"),
        ("grid.yaml:5", "trial.batch_size: must be at least 1, given 0"),
        ("grid.yaml:8", "grid.optimizer[1]: no 'addam' is registered"),
    ]
    hints = [p.hint for p in found]
    assert hints[0].startswith("did you mean 'trial'? allowed: artifacts, ")
    assert hints[1].startswith("did you mean 'digits'?")
    assert hints[2].startswith("did you mean 'epochs'?")
    assert hints[3] == "allowed: 1 ≤ value"
    assert hints[4].startswith("did you mean 'adam'?")


def test_defaults(load_text: Load) -> None:
    experiment = load_text(GOOD)
    assert (experiment.name, experiment.metric, experiment.direction) == (
        "grid",
        "val/accuracy",
        "max",
    )
    values = {name: f.values[()].value for name, f in experiment.grid.fields.items()}
    assert values["loss"].name == "cross_entropy"
    assert values["scheduler"].name == "constant"
    assert {k: v for k, v in values.items() if not hasattr(v, "component")} == {
        "lr": 0.1,
        "seed": 0,
        "device": "auto",
        "epochs": 10,
        "batch_size": 64,
        "eval_batch_size": 2048,
        "val_fraction": 0.1,
        "eval_every": 1,
        "log_every": 0,
        "augment": (),
        "precision": "fp32",
        "grad_clip": None,
        "metrics": ("accuracy",),
    }


def test_what_is_missing(problems: Problems) -> None:
    found = problems("name: x\ntrial: {model: mlp}\n")
    assert [(p.where, p.what.partition(":")[0]) for p in found] == [
        ("grid.yaml:2", "dataset is missing"),
        ("grid.yaml:2", "optimizer is missing"),
        ("grid.yaml:2", "lr is missing"),
    ]


@pytest.mark.parametrize(
    ("field", "what", "hint"),
    [
        ("lr: -0.1", "lr: must be greater than 0, given -0.1", "allowed: 0 < value"),
        ("lr: '1e-3'", "lr: must be a number, given '1e-3'", "write it as 0.001"),
        ("lr: null", "lr: must be a number, given null", "allowed: 0 < value"),
        ("lr: .nan", "numbers must be finite, given .nan", ""),
        ("epochs: 1.5", "epochs: must be an integer, given 1.5", "allowed: 1 ≤ value"),
        ("epochs: true", "epochs: must be an integer, given true", "allowed: 1 ≤ value"),
        ("seed: -1", "seed: must be at least 0, given -1", "allowed: 0 ≤ value < 2³²"),
        ("val_fraction: 1", "val_fraction: must be less than 1, given 1", "allowed: 0 ≤ value < 1"),
        ("grad_clip: 0", "grad_clip: must be greater than 0, given 0", "allowed: 0 < value"),
        (
            "precision: fp16",
            "precision: must be one of 'fp32' or 'bf16', given 'fp16'",
            "did you mean 'bf16'? allowed: bf16, fp32",
        ),
        (
            "device: gpu",
            "device: is not valid, given 'gpu'",
            "allowed: auto, cpu, mps, cuda, cuda:0",
        ),
        (
            "model: {name: mlp, hiden: [3]}",
            "model.hiden: model 'mlp' has no option 'hiden'",
            "did you mean 'hidden'? allowed: ",
        ),
        (
            "model: {name: mlp, dropout: 1.5}",
            "model.dropout: must be less than 1, given 1.5",
            "allowed: 0 ≤ value < 1",
        ),
        (
            "model: {name: mlp, hidden: [8, x]}",
            "model.hidden[1]: must be an integer, given 'x'",
            "",
        ),
        (
            "model: {hidden: [3]}",
            'mapping with `name` and its options, given {"hidden": [3]}',
            "",
        ),
        ("model: 3", "model: must be a model's name, or a mapping", ""),
        ("model.hidden: 3", "model.hidden: must be a list, given 3", ""),
        (
            "optimizer.momentum: 0.9",
            "optimizer 'sgd' has no option 'momentum'",
            "allowed: no_decay, weight",
        ),
        ("lr.x: 0.9", "lr.x: lr has no options of its own", ""),
        ("optimizr.x: 0.9", "optimizr.x: unknown field", "did you mean 'optimizer'?"),
        ("loss: mse", "loss: loss 'mse' does not fit a multiclass data set", "allowed: cross_entr"),
        ("metrics: [acuracy]", "no metric 'acuracy' is registered", "did you mean 'accuracy'?"),
        ("metrics: [f1, f1]", "metrics: 'f1' is given twice", ""),
        ("metrics: [r2]", "metric 'r2' does not fit a multiclass data set", "allowed: accuracy"),
        ("augment: shift", "no 'shift' is registered", ""),
    ],
)
def test_a_bad_trial_field(problems: Problems, field: str, what: str, hint: str) -> None:
    lines = [line for line in GOOD.splitlines() if not line.strip().startswith(field.split(":")[0])]
    (problem,) = problems("\n".join([*lines, f"  {field}"]))
    assert what in problem.what
    assert problem.what.startswith("trial.") or "finite" in problem.what
    assert problem.hint.startswith(hint)
    assert problem.where == f"grid.yaml:{len(lines) + 1}"


@pytest.mark.parametrize(
    ("grid", "where", "what"),
    [
        ("seed: []", "6", "grid.seed: an axis must not be empty"),
        ("seed: 3", "6", "grid.seed: an axis must be a list, given 3"),
        ("seed: [0, 1, 0]", "6", "grid.seed[2]: 0 is given twice, first as grid.seed[0]"),
        ("epoch: [1]", "6", "grid.epoch: unknown field"),
        ("lr: [0.1]", "6", "grid.lr: is set in trial too (grid.yaml:5)"),
        ("scheduler: [cosine, {name: cosine}]", "6", "grid.scheduler[1]: cosine is given twice"),
        ("model.dropout: [0, -0.0]", "6", "grid.model.dropout[1]: 0 is given twice, first as"),
        ("model.hidden: [[8], [8]]", "6", "grid.model.hidden[1]: [8] is given twice"),
        ("model.hidden: [[8], [-1.5]]", "6", "grid.model.hidden[1][0]: must be an integer"),
        ("epochs: [1, 0]", "6", "grid.epochs[1]: must be at least 1"),
    ],
)
def test_a_bad_axis(problems: Problems, grid: str, where: str, what: str) -> None:
    (problem,) = problems(GOOD + f"grid: {{{grid}}}\n")
    assert what in problem.what
    assert problem.where == f"grid.yaml:{where}"


def test_equal_numbers_written_apart_are_one_value(problems: Problems) -> None:
    (problem,) = problems(GOOD.replace("  lr: 0.1\n", "grid:\n  lr:\n    - 1e-3\n    - 0.001\n"))
    assert problem.where == "grid.yaml:8"
    assert problem.what == "grid.lr[1]: 0.001 is given twice, first as grid.lr[0]"


@pytest.mark.parametrize(
    ("top", "what", "hint"),
    [
        ("name: a/b", "name: is not valid, given 'a/b'", "name of the exp"),
        ("name: .hidden", "name: is not valid, given '.hidden'", "name of the"),
        ("name: -x", "name: is not valid, given '-x'", "name of the"),
        ("name: --html=/tmp/x", "name: is not valid, given '--html=/tmp/x'", "name of the"),
        ("name: 3", "name: must be text, given 3", ""),
        ("target: high", "target: must be a number, given 'high'", ""),
        ("artifacts: bets", "artifacts: must be one of", "did you mean 'best'?"),
        ("metric: val/acuracy", "metric: no metric 'acuracy'", "did you mean 'val/accuracy'?"),
        ("metric: accuracy", "metric: must be a split and a metric", "did you mean 'val/accuracy'"),
        ("metric: val/r2", "metric 'r2' does not fit a multiclass data set", "allowed: val/acc"),
        ("metric: 3", "metric: must be a split and a metric, given 3", ""),
        ("grid: [1]", "grid[0]: must be a mapping of axes, given 1", ""),
        ("skip: {a: 1}", "skip: must be a list", ""),
        ("skip: [x]", "skip[0]: must be a mapping, given 'x'", ""),
        ("search: {trails: 3}", "search.trails: unknown field", "did you mean 'trials'?"),
        (
            "search: {per: [optimzer]}",
            "search.per[0]: unknown field 'optimzer'",
            "did you mean 'optimizer'?",
        ),
        ("search: {trials: 0}", "search.trials: must be at least 1, given 0", ""),
    ],
)
def test_a_bad_field_of_the_file(problems: Problems, top: str, what: str, hint: str) -> None:
    (problem,) = problems(GOOD + top)
    assert what in problem.what
    assert problem.hint.startswith(hint)
    assert problem.where == "grid.yaml:6"


def test_a_file_that_is_not_a_mapping(problems: Problems) -> None:
    assert problems("- a\n")[0].what == "must be a mapping of fields"
    assert problems("")[0].what == "is empty"


def test_a_grid_too_large_to_be_meant(problems: Problems) -> None:
    axes = "\n".join(f"  {name}: {list(range(1, 41))}" for name in ("seed", "epochs", "batch_size"))
    content = GOOD + "grid:\n" + axes + "\n  eval_every: [1, 2]\n"
    assert problems(content)[0].what == "grid: has 128000 combinations; at most 100000 are allowed"


class TestSelection:
    def test_on_test_without_validation_examples(self, load_text: Load) -> None:
        assert load_text(GOOD + "  val_fraction: 0").metric == "test/accuracy"

    def test_the_loss_is_minimised(self, load_text: Load) -> None:
        assert load_text(GOOD + "metric: val/loss").direction == "min"

    def test_a_regression(self, load_text: Load) -> None:
        experiment = load_text(GOOD.replace("digits", "diabetes"))
        assert (experiment.metric, experiment.direction) == ("val/r2", "max")

    @pytest.mark.parametrize("val", ["  val_fraction: 0", "grid: {val_fraction: [0.1, 0]}"])
    def test_val_needs_validation_examples(self, problems: Problems, val: str) -> None:
        (problem,) = problems(GOOD + val + "\nmetric: val/accuracy")
        assert problem.where == "grid.yaml:6"
        assert "is 0, so there are no validation examples" in problem.what

    def test_the_metric_is_always_recorded(self, load_text: Load) -> None:
        experiment = load_text(GOOD + "  metrics: [recall]\nmetric: val/f1")
        assert experiment.grid.fields["metrics"].values[()].value == ("f1", "recall")

    def test_it_must_fit_every_data_set(self, problems: Problems) -> None:
        content = GOOD.replace("  dataset: digits\n", "") + "grid: {dataset: [digits, diabetes]}"
        (problem,) = problems(content)
        assert problem.what == "metric: metric 'accuracy' does not fit a regression data set"


class TestCombinations:
    def test_each_data_set_has_its_own_loss_and_metrics(self, load_text: Load) -> None:
        content = GOOD.replace("  dataset: digits\n", "") + "metric: val/loss\n"
        grid = load_text(content + "grid: {dataset: [digits, breast_cancer, diabetes]}").grid
        assert [c.value.name for c in grid.fields["loss"].values.values()] == [
            "cross_entropy",
            "bce",
            "mse",
        ]
        assert grid.fields["metrics"].values[2,].value == ("r2", "rmse")

    def test_a_model_that_cannot_take_the_data(self, problems: Problems) -> None:
        (problem,) = problems(GOOD.replace("digits", "iris").replace("mlp", "cnn"))
        assert problem.where == "grid.yaml:3"
        assert problem.what.startswith("trial.model: cnn cannot take iris: ")

    def test_a_skip_rule_leaves_out_what_does_not_fit(self, load_text: Load) -> None:
        content = """\
        trial: {optimizer: sgd, lr: 0.1}
        grid: {dataset: [digits, iris], model: [mlp, cnn]}
        skip: [{when: {dataset: iris, model: cnn}, because: cnn reads images}]
        """
        grid = load_text(content).grid
        assert len(grid.combinations) == 3

    def test_plateau_follows_a_recorded_metric(self, problems: Problems, load_text: Load) -> None:
        watch = "  scheduler: {{name: plateau, metric: {}, mode: max}}\n"
        (problem,) = problems(GOOD + watch.format("val/f1"))
        assert "follows 'val/f1', which is not recorded" in problem.what
        assert problem.where == "grid.yaml:6"
        load_text(GOOD + watch.format("val/f1") + "  metrics: [f1]\n")
        found = problems(GOOD + watch.format("val/accuracy") + "  val_fraction: 0\n")
        assert ["but val_fraction is 0" in problem.what for problem in found] == [True]

    def test_augmentation_needs_images(self, problems: Problems, load_text: Load) -> None:
        load_text(GOOD + "  augment: [flip]\n")
        (problem,) = problems(GOOD.replace("digits", "iris") + "  augment: [flip]\n")
        assert problem.what == "trial.augment: changes images, but iris has none"

    def test_too_few_classes_for_a_metric(self, problems: Problems) -> None:
        (problem,) = problems(GOOD.replace("digits", "iris") + "  metrics: [top5]\n")
        assert "metric 'top5' needs 6 classes, but the data set has 3" in problem.what


class TestOptionsApart:
    """Dotted options, which apply to whichever component is chosen."""

    def test_they_apply_to_the_component(self, load_text: Load) -> None:
        grid = load_text(
            GOOD + "  scheduler.warmup_epochs: 2\ngrid: {model.hidden: [[8], []]}"
        ).grid
        assert grid.fields["scheduler"].values[()].value.label == "constant(warmup_epochs=2)"
        assert [c.value.label for c in grid.fields["model"].values.values()] == [
            "mlp(hidden=[8])",
            "mlp(hidden=[])",
        ]

    def test_of_a_default_loss(self, load_text: Load) -> None:
        grid = load_text(GOOD + "  loss.label_smoothing: 0.1").grid
        assert grid.fields["loss"].values[()].value.label == "cross_entropy(label_smoothing=0.1)"

    LACKING = """\
    trial: {dataset: digits, model: mlp, lr: 0.1}
    grid:
      optimizer: [sgd, momentum]
      optimizer.momentum: [0.5, 0.9]
    """

    def test_a_component_that_lacks_one_is_an_error(self, problems: Problems) -> None:
        found = problems(self.LACKING)
        assert [(p.where, p.what) for p in found] == [
            (
                "grid.yaml:4",
                f"grid.optimizer.momentum[{i}]: optimizer 'sgd' has no option 'momentum'",
            )
            for i in (0, 1)
        ]

    def test_unless_it_is_skipped(self, load_text: Load) -> None:
        rule = "skip: [{when: {optimizer: sgd}, because: it has no momentum}]"
        grid = load_text(self.LACKING.replace("    ", "", 1).replace("\n    ", "\n") + rule).grid
        assert len(grid.combinations) == 2

    def test_given_twice(self, problems: Problems) -> None:
        (problem,) = problems(
            GOOD.replace("sgd", "{name: sgd, weight_decay: 0.1}") + "  optimizer.weight_decay: 0\n"
        )
        assert problem.where == "grid.yaml:6"
        assert "'weight_decay' is given twice, here and in trial.optimizer" in problem.what


def test_a_component_file_that_is_missing_is_reported_with_its_line(problems: Problems) -> None:
    content = GOOD.replace("digits", "{name: csv, path: nowhere.csv, target: y}")
    (problem,) = problems(content)
    assert "nowhere.csv" in str(problem)


def test_a_name_that_torch_resolves(load_text: Load) -> None:
    grid = load_text(GOOD.replace("sgd", "{name: Adadelta, rho: 0.8}")).grid
    assert grid.fields["optimizer"].values[()].value.label == "Adadelta(rho=0.8)"
