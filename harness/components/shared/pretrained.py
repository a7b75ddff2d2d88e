"""Pretrained weights: finds or downloads their file, and loads it into a network."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.components.shared.data_files import nearest_path, offline_reason, sha256
from harness.core.errors import DataMissing, InputError, Problem
from harness.core.paths import data_root

if TYPE_CHECKING:
    from torch import Tensor, nn

AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
"""Prefixes of entries in torchvision's files that belong to heads for training only."""


def local_file(path: str) -> Path:
    """Returns the path of a user's weights file, relative to the working directory or else to the
    data folder.

    Raises InputError if it does not exist.
    """
    file = Path(path).expanduser().resolve()
    for found in (file, data_root() / Path(path).expanduser()):
        if found.is_file():
            return found
    near = nearest_path(file)
    suggestion = f"did you mean {near}? " if near else ""
    raise InputError(
        Problem(f"model.weights: no file {path!r}", hint=f"{suggestion}expected: {file}")
    )


def cached_file(url: str) -> Path:
    """Returns the file of a URL in torch hub's cache, and downloads it if it is not there.

    The file's name ends with the first digits of its SHA-256 ("alexnet-owt-7be5be79.pth"), which
    are checked. Raises InputError if the file is damaged or cannot be downloaded, DataMissing if it
    is not there within `data_files.offline`.
    """
    import torch

    name = url.rsplit("/", 1)[1]
    file = Path(torch.hub.get_dir(), "checkpoints", name).resolve()
    digits = re.search(r"-([0-9a-f]{8,})\.", name)
    prefix = digits[1] if digits else ""
    if not file.is_file():
        _download(url, file, prefix)
    if not sha256(file).startswith(prefix):
        raise InputError(
            Problem(
                f"model.weights: {file} is damaged: its SHA-256 begins with "
                f"{sha256(file)[: len(prefix)]}, its name says {prefix}",
                hint=f"remove it, and it is downloaded again from {url}",
            )
        )
    return file


def _download(url: str, file: Path, prefix: str) -> None:
    import torch

    if reason := offline_reason():
        message = f"model.weights: {file} does not exist, and {reason}"
        raise DataMissing(Problem(message, hint=f"it is published at {url}"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), prefix, progress=sys.stderr.isatty())
    # OSError: the network or the disk. RuntimeError: the checksum.
    except (OSError, RuntimeError) as error:
        raise InputError(
            Problem(
                f"model.weights: {file.name} does not exist and could not be downloaded: {error}",
                hint=f"expected: {file}, from {url}",
            )
        ) from error


def load_weights(network: nn.Module, file: Path, head: Iterable[str]) -> None:
    """Loads a state dict into `network`, in place.

    head: names of the entries whose shapes depend on the number of outputs. Those with another
        shape in the file keep their initial weights. The file must contain all other entries.
    Raises InputError if the file is not a state dict, belongs to another network, or contains NaN.
    """
    state = _read(file)
    own = network.state_dict()
    new = {name for name in head if getattr(state.get(name), "shape", None) != own[name].shape}
    state = {name: tensor for name, tensor in state.items() if name not in new}
    for name, tensor in state.items():
        if name in own and tensor.shape != own[name].shape:
            raise _wrong_weights(
                file, f"its {name} is {list(tensor.shape)}, the network's {list(own[name].shape)}"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise _wrong_weights(file, f"its {name} contains values that are not finite")
    missing, unexpected = network.load_state_dict(state, strict=False)
    lacking = sorted(set(missing) - new)
    surplus = [name for name in unexpected if not name.startswith(AUXILIARY_HEADS)]
    for verb, names in (("lacks", lacking), ("also contains", surplus)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise _wrong_weights(file, f"it {verb} {', '.join(names[:3])}{more}")


def _read(file: Path) -> dict[str, Tensor]:
    """Returns a file's state dict, with the current names of DenseNet's layers in torchvision."""
    import pickle

    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    # For a damaged file, torch's reader raises EOFError or RuntimeError, its unpickler KeyError
    # and others.
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise _wrong_weights(file, str(error).partition("\n")[0]) from error
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise _wrong_weights(
            file,
            "it is not a state dict (names and tensors), as torch.save(net.state_dict(), …) writes",
        )
    for name in list(state):
        current = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)
        if current != name:
            state[current] = state.pop(name)
    return state


def _wrong_weights(file: Path, reason: str) -> InputError:
    return InputError(f"model.weights: {file} cannot be loaded into this model: {reason}")
