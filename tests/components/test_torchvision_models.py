"""torchvision's models: every architecture, sizes and channels, and weights from files."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional
from torchvision import models

from harness.components.base import DataInfo, Model, Task
from harness.components.shared.data_files import offline
from harness.components.shared.layers import build_on_meta
from harness.core.errors import DataMissing, InputError
from harness.experiment.trial import Choice

CLASSES = tuple(str(digit) for digit in range(10))
SMALL = "squeezenet1_1"


def image(*shape: int) -> DataInfo:
    return DataInfo(Task.MULTICLASS, shape, CLASSES)


def choose(**options: object) -> Choice[Model]:
    return Choice.of("models", {"name": "torchvision", **options})


def build(choice: Choice[Model], info: DataInfo, outputs: int = 10) -> torch.nn.Module:
    torch.manual_seed(0)
    return choice.component.build(choice.options, info, outputs)


def refusal(**options: object) -> dict[str, str]:
    with pytest.raises(ValidationError) as refused:
        choose(**options)
    return {".".join(map(str, error["loc"])): error["msg"] for error in refused.value.errors()}


# --- options


def test_unknown_names_are_refused_with_the_closest() -> None:
    assert "did you mean 'resnet18'?" in refusal(arch="resnet81")["arch"]
    unknown = refusal(arch="resnet18", weights="IMAGENET1K_V9")["weights"]
    assert "did you mean 'IMAGENET1K_V1'?" in unknown
    assert set(refusal(weights="")) == {"weights"}


def test_detection_and_video_models_are_no_classifiers_of_images() -> None:
    assert set(refusal(arch="fasterrcnn_resnet50_fpn")) == {"arch"}
    assert set(refusal(arch="r3d_18")) == {"arch"}


@pytest.mark.parametrize("resize", [0, -8, 8.5, True, "large"])
def test_sizes_out_of_range_are_refused(resize) -> None:
    assert all(place.startswith("resize") for place in refusal(resize=resize))


@pytest.mark.parametrize("arch", ["resnet18", "convnext_tiny", "regnet_y_400mf", "maxvit_t"])
def test_dropout_is_refused_where_the_architecture_has_none(arch) -> None:
    """convnext_tiny's builder takes the keyword, and drops it."""
    assert refusal(arch=arch, dropout=0.3) == {"dropout": f"Value error, {arch} has no dropout"}


@pytest.mark.parametrize("arch", ["alexnet", "vgg11", SMALL, "mobilenet_v2", "efficientnet_b0"])
def test_dropout_replaces_the_architectures_own(arch) -> None:
    choice = choose(arch=arch, dropout=0.3)
    model = build_on_meta(lambda: build(choice, image(3, 64, 64)))
    rates = {layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)}
    assert rates == {0.3}


def test_dropout_of_densenet_has_another_name() -> None:
    choice = choose(arch="densenet121", dropout=0.3)
    model = build_on_meta(lambda: build(choice, image(3, 64, 64)))
    layers = [layer for layer in model.modules() if hasattr(layer, "drop_rate")]
    assert layers
    assert {layer.drop_rate for layer in layers} == {0.3}


# --- sizes and channels


def test_a_model_is_torchvisions_own_where_nothing_is_in_its_way() -> None:
    model = build(choose(arch=SMALL), image(3, 32, 32))
    assert type(model) is models.SqueezeNet


def test_alexnet_keeps_its_classifier_but_for_the_last_layer() -> None:
    choice = choose(arch="alexnet", dropout=0.3)
    model = build_on_meta(lambda: build(choice, image(3, 96, 96)))
    assert isinstance(model, models.AlexNet)
    linear = [layer for layer in model.classifier if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (9216, 4096),
        (4096, 4096),
        (4096, 10),
    ]


def test_one_channel_is_repeated() -> None:
    grey = torch.randn(2, 1, 32, 32)
    by_one = build(choose(arch=SMALL), image(1, 32, 32)).eval()
    by_three = build(choose(arch=SMALL), image(3, 32, 32)).eval()
    assert torch.equal(by_one(grey), by_three(grey.expand(-1, 3, -1, -1)))


def test_small_images_are_enlarged_to_torchvisions_minimum_and_others_left() -> None:
    seen: list[tuple[int, ...]] = []

    def sizes(choice: Choice[Model], info: DataInfo) -> tuple[int, ...]:
        model = build(choice, info)
        network = getattr(model, "network", model)
        network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
        model(torch.randn(2, *info.shape))
        return seen[-1]

    least = models.SqueezeNet1_1_Weights.DEFAULT.meta["min_size"][0]
    assert least == 17
    assert sizes(choose(arch=SMALL), image(1, 8, 8)) == (2, 3, 17, 17)
    assert sizes(choose(arch=SMALL), image(1, 8, 16)) == (2, 3, 17, 34)
    assert sizes(choose(arch=SMALL), image(3, 20, 30)) == (2, 3, 20, 30)
    assert sizes(choose(arch=SMALL, resize=24), image(3, 32, 32)) == (2, 3, 24, 24)
    assert sizes(choose(arch=SMALL, resize=None), image(3, 32, 40)) == (2, 3, 32, 40)


def test_resizing_is_that_of_prepared_images() -> None:
    """The same antialiased bilinear filter that a data set's own `size` uses."""
    images = torch.randn(2, 3, 32, 32)
    front = build(choose(arch=SMALL, resize=20), image(3, 32, 32)).get_submodule("resize")
    expected = functional.interpolate(images, (20, 20), mode="bilinear", antialias=True)
    torch.testing.assert_close(front(images), expected)


def test_several_networks_run_as_one_with_resizing_and_a_repeated_channel() -> None:
    """Fused training maps over networks with torch.func.vmap."""
    info = image(1, 8, 8)
    networks = [build(choose(arch=SMALL), info).eval() for _ in range(2)]
    stacked = torch.func.stack_module_state(networks)

    def run(
        state: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]], images: torch.Tensor
    ) -> torch.Tensor:
        outputs: torch.Tensor = torch.func.functional_call(networks[0], state, (images,))
        return outputs

    images = torch.randn(2, 3, *info.shape)
    together = torch.func.vmap(run)(stacked, images)
    one_by_one = torch.stack([net(x) for net, x in zip(networks, images, strict=True)])
    torch.testing.assert_close(together, one_by_one)


@pytest.mark.parametrize(
    ("options", "info", "why"),
    [
        ({"arch": SMALL}, DataInfo(Task.BINARY, (4,), ("a", "b")), "needs images; .* [4]"),
        ({"arch": SMALL}, image(2, 32, 32), "1 or 3 channels; .* 2"),
        ({"arch": SMALL, "resize": None}, image(1, 8, 8), "cannot process images of 8×8 pixels: "),
        ({"arch": "alexnet", "resize": 32}, image(1, 64, 64), "cannot process images of 32×32"),
        ({"arch": "vit_b_32", "resize": 50}, image(3, 64, 64), "indivisible by patch size"),
        ({"arch": "vit_b_32", "resize": None}, image(3, 32, 64), "cannot process images of 32×64"),
    ],
)
def test_data_it_cannot_take_is_refused_with_a_reason(options, info, why) -> None:
    choice = choose(**options)
    reason = choice.component.accepts(choice.options, info)
    assert reason is not None
    for part in why.split(" .* "):
        assert part in reason


def test_a_transformer_is_built_for_the_size_asked_for() -> None:
    choice = choose(arch="vit_b_32", resize=64)
    assert choice.component.accepts(choice.options, image(1, 28, 28)) is None
    network = build_on_meta(lambda: build(choice, image(1, 28, 28))).network
    assert isinstance(network, models.VisionTransformer)
    assert network.image_size == 64


@pytest.mark.parametrize("resize", [None, 32])
def test_trying_a_size_draws_nothing_and_takes_regnet(resize) -> None:
    """RegNet computes its widths with tensors, which a plain meta device cannot."""
    choice = choose(arch="regnet_y_400mf", resize=resize)
    before = torch.random.get_rng_state()
    assert choice.component.accepts(choice.options, image(3, 32, 32)) is None
    assert torch.equal(torch.random.get_rng_state(), before)


# --- weights


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torch hub's, and a web that has nothing."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub"


def save(model: torch.nn.Module, file: Path) -> Path:
    torch.save(model.state_dict(), file)
    return file


def named(file: Path) -> Path:
    """The file renamed as torchvision does, by its checksum."""
    prefix = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    return file.rename(file.with_name(f"{file.stem}-{prefix}.pth"))


def publish(monkeypatch, file: Path) -> None:
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights.value, "url", file.as_uri())


@pytest.fixture
def published(tmp_path, monkeypatch, hub):
    """A network of 7 classes whose weights stand where torchvision's would be downloaded."""
    torch.manual_seed(5)
    model = models.squeezenet1_1(num_classes=7)
    publish(monkeypatch, named(save(model, tmp_path / "squeezenet")))
    return model


def same(first: torch.nn.Module, second: torch.nn.Module) -> dict[str, bool]:
    others = second.state_dict()
    return {
        name: value.shape == others[name].shape and torch.equal(value, others[name])
        for name, value in first.state_dict().items()
    }


def test_named_weights_are_downloaded_once_and_loaded(published, hub) -> None:
    choice = choose(arch=SMALL, weights="DEFAULT")
    fingerprint = choice.component.fingerprint(choice.options)
    (file,) = (hub / "checkpoints").iterdir()
    assert fingerprint == hashlib.sha256(file.read_bytes()).hexdigest()
    before = file.stat().st_mtime_ns
    assert all(same(build(choice, image(3, 32, 32), outputs=7), published).values())
    assert file.stat().st_mtime_ns == before


def test_the_head_is_new_where_the_number_of_outputs_differs(published) -> None:
    fresh = build(choose(arch=SMALL), image(3, 32, 32), outputs=10)
    loaded = build(choose(arch=SMALL, weights="IMAGENET1K_V1"), image(3, 32, 32), outputs=10)
    head = {"classifier.1.weight", "classifier.1.bias"}
    assert {name for name, equal in same(loaded, published).items() if not equal} == head
    assert all(same(loaded, fresh)[name] for name in head)


def test_weights_that_cannot_be_downloaded_are_named_with_their_path(
    tmp_path, monkeypatch, hub
) -> None:
    publish(monkeypatch, tmp_path / "absent-0123abcd.pth")
    choice = choose(arch=SMALL, weights="IMAGENET1K_V1")
    with pytest.raises(InputError) as refused:
        choice.component.fingerprint(choice.options)
    assert "could not be downloaded" in str(refused.value)
    assert f"expected: {hub / 'checkpoints' / 'absent-0123abcd.pth'}" in str(refused.value)


def test_weights_are_not_downloaded_offline(published, hub) -> None:
    choice = choose(arch=SMALL, weights="IMAGENET1K_V1")
    with offline("a dry run downloads nothing"), pytest.raises(DataMissing) as refused:
        choice.component.fingerprint(choice.options)
    assert "does not exist, and a dry run downloads nothing" in str(refused.value)
    assert not (hub / "checkpoints").exists()


def test_a_download_that_is_not_what_its_name_says_is_not_kept(tmp_path, monkeypatch, hub) -> None:
    file = save(models.squeezenet1_1(num_classes=7), tmp_path / "net-0123abcd.pth")
    publish(monkeypatch, file)
    choice = choose(arch=SMALL, weights="IMAGENET1K_V1")
    with pytest.raises(InputError, match="invalid hash value"):
        choice.component.fingerprint(choice.options)
    assert list((hub / "checkpoints").iterdir()) == []


def test_one_flipped_byte_in_the_cache_is_found(published, hub) -> None:
    choice = choose(arch=SMALL, weights="DEFAULT")
    choice.component.fingerprint(choice.options)
    (file,) = (hub / "checkpoints").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        build(choice, image(3, 32, 32), outputs=7)


def test_a_users_file_is_loaded_and_its_path_is_not_part_of_the_id(tmp_path) -> None:
    torch.manual_seed(5)
    model = models.squeezenet1_1(num_classes=10)
    first = save(model, tmp_path / "first.pth")
    second = Path(shutil.copy(first, tmp_path / "second.pth"))
    choices = [choose(arch=SMALL, weights=str(file)) for file in (first, second)]
    assert all(same(build(choices[0], image(1, 32, 32)).get_submodule("network"), model).values())
    assert choices[0].identity() == choices[1].identity()
    prints = {choice.component.fingerprint(choice.options) for choice in choices}
    assert prints == {hashlib.sha256(first.read_bytes()).hexdigest()}
    save(models.squeezenet1_1(num_classes=10), second)
    assert choices[1].component.fingerprint(choices[1].options) not in prints
    assert choose(arch=SMALL).component.fingerprint(choose(arch=SMALL).options) == ""


def test_a_missing_file_is_named(tmp_path) -> None:
    choice = choose(arch=SMALL, weights=str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match=r"none\.pth"):
        choice.component.fingerprint(choice.options)


class Evil:
    """What an attacker's file would hold: unpickling it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_file_that_runs_code_is_refused(tmp_path) -> None:
    target, file = tmp_path / "owned", tmp_path / "evil.pth"
    torch.save(Evil(target), file)
    with pytest.raises(InputError, match="cannot be loaded"):
        build(choose(arch=SMALL, weights=str(file)), image(3, 32, 32))
    assert not target.exists()


def _rename(state: dict[str, torch.Tensor]) -> None:
    state["other"] = state.pop("features.0.bias")


def _reshape(state: dict[str, torch.Tensor]) -> None:
    state["features.0.weight"] = torch.zeros(64, 1, 3, 3)


def _poison(state: dict[str, torch.Tensor]) -> None:
    state["features.0.weight"][0] = torch.nan


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda state: state.pop("features.0.bias"), "it lacks features.0.bias"),
        (lambda state: state.update(more=torch.zeros(1)), "it also contains more"),
        (_rename, "it lacks features.0.bias"),
        (_reshape, r"its features.0.weight is \[64, 1, 3, 3\], the network's \[64, 3, 3, 3\]"),
        (_poison, "its features.0.weight contains values that are not finite"),
        (lambda state: state.update(epoch=3), "it is not a state dict"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, change, why) -> None:
    state = models.squeezenet1_1(num_classes=10).state_dict()
    change(state)
    torch.save(state, tmp_path / "net.pth")
    choice = choose(arch=SMALL, weights=str(tmp_path / "net.pth"))
    with pytest.raises(InputError, match=why):
        build(choice, image(3, 32, 32))


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_a_truncated_file_is_refused(tmp_path, size) -> None:
    file = save(models.squeezenet1_1(num_classes=10), tmp_path / "net.pth")
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(InputError, match="cannot be loaded into this model"):
        build(choose(arch=SMALL, weights=str(file)), image(3, 32, 32))


def test_old_names_of_densenets_layers_are_mended(tmp_path) -> None:
    """As torchvision's own files still have them: "denselayer1.norm.1.weight"."""
    with torch.device("meta"):
        state = models.densenet121(num_classes=10).state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): torch.ones(value.shape)
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")  # newer than those files
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet.pth")
    model = build(
        choose(arch="densenet121", weights=str(tmp_path / "densenet.pth")), image(3, 32, 32)
    )
    assert all((parameter == 1).all() for parameter in model.parameters())


@pytest.mark.slow
def test_auxiliary_heads_in_a_file_are_left_out(tmp_path) -> None:
    """torchvision's files of these two hold them; the logits alone are wanted."""
    torch.manual_seed(5)
    model = models.googlenet(num_classes=10, aux_logits=True, init_weights=False)
    file = save(model, tmp_path / "googlenet.pth")
    loaded = build(choose(arch="googlenet", weights=str(file)), image(3, 32, 32))
    assert all(same(loaded, model).values())
    assert loaded.transform_input


# --- every architecture

VARIED = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "regnet_y_400mf",
    "resnet18",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_32",
)


def _contract(arch: str, shape: tuple[int, ...]) -> None:
    """Over shapes alone: the largest would fill the memory of a small machine."""
    choice, info = choose(arch=arch), image(*shape)
    assert choice.component.accepts(choice.options, info) is None
    model = build_on_meta(lambda: build(choice, info))
    logits = model(torch.empty(2, *info.shape, device="meta"))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 300, 300)])
@pytest.mark.parametrize("arch", VARIED)
def test_varied_architectures_give_plain_logits(arch, shape) -> None:
    _contract(arch, shape)


@pytest.mark.slow
@pytest.mark.parametrize("arch", models.list_models(module=models))
def test_every_architecture_takes_small_images_of_one_channel(arch) -> None:
    _contract(arch, (1, 28, 28))
