"""Models of well-known shapes, written as their users write them. None knows of the harness.

`MODELS` says how an experiment file names each: its fields beside `FIELDS` and those of a small
trial (`tests.support.make_trial`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from harness.components import registry
from harness.components.code.source import UserCode
from harness.experiment.trial import Trial
from tests.support import make_trial

HERE: Final = Path(__file__).parent
IMAGES: Final = {"in_channels": "$channels", "num_classes": "$classes"}
TEXT: Final = {"vocab": 12, "classes": "$classes"}
RECONSTRUCTION: Final = {
    "dataset": {"name": "digits", "task": "autoencoding"},
    "loss": "mse",
    "metrics": ["mae"],
}
REGRESSION: Final = {"dataset": "diabetes", "loss": "mse", "metrics": ["mae"]}


def _model(name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, **options}


MODELS: Final[dict[str, dict[str, Any]]] = {
    "ResNet18": {"model": _model("resnet.py:ResNet18", width=8, **IMAGES)},
    "WideResNet": {"model": _model("resnet.py:WideResNet", base=4, **IMAGES)},
    "DenseNet": {
        "model": _model("convnets.py:DenseNet", in_channels="$channels", classes="$classes")
    },
    "MobileNet": {"model": _model("convnets.py:MobileNet", **IMAGES)},
    "EfficientNet": {"model": _model("convnets.py:efficientnet", **IMAGES)},
    "ConvNeXt": {
        "model": _model("convnets.py:ConvNeXt", in_chans="$channels", num_classes="$classes")
    },
    "ViT": {"model": _model("vision.py:ViT", shape="$shape", classes="$classes")},
    "MLP-Mixer": {"model": _model("vision.py:MLPMixer", channels="$channels", classes="$classes")},
    "U-Net (reconstructs images)": {
        "model": _model("vision.py:UNet", channels="$channels"),
        **RECONSTRUCTION,
    },
    "LSTM": {"model": _model("text.py:LSTMClassifier", **TEXT), "dataset": "words"},
    "GRU": {"model": _model("text.py:GRUClassifier", **TEXT), "dataset": "words"},
    "TextCNN": {"model": _model("text.py:TextCNN", **TEXT), "dataset": "words"},
    "Transformer encoder": {
        "model": _model("text.py:TransformerClassifier", **TEXT),
        "dataset": "words",
    },
    "GCN": {
        "model": _model("sets.py:GCN", shape="$shape", classes="$outputs"),
        "dataset": "graphs",
    },
    "DeepSets": {
        "model": _model("sets.py:DeepSets", dim=3, classes="$outputs"),
        "dataset": "clouds",
    },
    "PointNet": {"model": _model("sets.py:PointNet", classes="$outputs"), "dataset": "clouds"},
    "TabTransformer": {
        "model": _model(
            "tables.py:TabTransformer", num_features="$features", num_classes="$classes"
        ),
        "dataset": "iris",
    },
    "KAN": {
        "model": _model("tables.py:KAN", layers=["$features", 8, "$classes"]),
        "dataset": "iris",
    },
    "Mixture of experts": {
        "model": _model("tables.py:MixtureOfExperts", features="$features", classes="$classes"),
        "dataset": "iris",
    },
    "Fourier features": {
        "model": _model("tables.py:FourierFeatures", inputs="$features", outputs="$outputs"),
        **REGRESSION,
    },
    "SIREN": {
        "model": _model("tables.py:Siren", inputs="$features", outputs="$outputs"),
        **REGRESSION,
    },
    "Autoencoder": {
        "model": _model("representations.py:Autoencoder", features="$features"),
        **RECONSTRUCTION,
    },
    "VAE": {
        "model": _model("representations.py:VAE", features="$features"),
        "training_step": {"name": "representations.py:elbo", "beta": 0.5},
        **RECONSTRUCTION,
    },
    "Siamese": {
        "model": _model("representations.py:Siamese", features="$features", classes="$classes"),
        "training_step": "representations.py:contrastive",
    },
}
STEPS: Final = ("representations.py:elbo", "representations.py:contrastive")
FIELDS: Final[dict[str, Any]] = {"optimizer": "adam", "lr": 0.003}


def own_trial(name: str, seed: int = 0, epochs: int = 1, **fields: Any) -> Trial:
    """Returns a trial of one of the models, as an experiment file beside this one makes it."""
    named = {("models", of["model"]["name"]) for of in MODELS.values()}
    named |= {("training_steps", name) for name in STEPS}
    code = UserCode(HERE, ("data.py",), frozenset(named))
    if registry.active_code() != code:
        registry.activate(code)
    return make_trial(**{**FIELDS, **MODELS[name], **fields, "seed": seed, "epochs": epochs})
