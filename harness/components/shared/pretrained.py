"""Files of pretrained weights: finding or downloading one, and loading it into a network."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.components.shared.data_files import forbidden
from harness.core.errors import DataMissing, InputError, Problem

if TYPE_CHECKING:
    from torch import Tensor, nn


def checksum(path: Path) -> str:
    """SHA-256 of a file in hex, read again only when the file has changed."""
    stat = path.stat()
    return _checksum(path, (stat.st_size, stat.st_mtime_ns))


@cache
def _checksum(path: Path, _version: tuple[int, int]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_file(path: str) -> Path:
    """A weights file of the user's own, relative to the working directory.

    Raises InputError where it is not there.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise InputError(Problem(f"model.weights: no file {path!r}", hint=f"wanted: {file}"))
    return file


def cached_file(url: str) -> Path:
    """The file of a URL in torch hub's cache, downloaded where it is not there yet.

    Its name ends, before the suffix, in the first digits of its SHA-256 ("alexnet-owt-7be5be79"),
    which are checked. Raises InputError, naming the file wanted and where, if it cannot be had, and
    DataMissing where it is not there and `datafiles.offline` holds.
    """
    import torch

    name = url.rsplit("/", 1)[1]
    file = Path(torch.hub.get_dir(), "checkpoints", name).resolve()
    prefix = _named_checksum(name)
    if not file.is_file():
        _download(url, file, prefix)
    if not checksum(file).startswith(prefix):
        raise InputError(
            Problem(
                f"model.weights: {file} is damaged: its SHA-256 begins with "
                f"{checksum(file)[: len(prefix)]}, its name says {prefix}",
                hint=f"remove it, and it is downloaded again from {url}",
            )
        )
    return file


def _named_checksum(name: str) -> str:
    found = re.search(r"-([0-9a-f]{8,})\.", name)
    return found[1] if found else ""


def _download(url: str, file: Path, prefix: str) -> None:
    import torch

    if why := forbidden():
        told = f"model.weights: {file} does not exist, and {why}"
        raise DataMissing(Problem(told, hint=f"it is published at {url}"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), prefix, progress=sys.stderr.isatty())
    # Of the network and the disk: OSError; of the checksum: RuntimeError.
    except (OSError, RuntimeError) as error:
        raise InputError(
            Problem(
                f"model.weights: {file.name} is not there and could not be downloaded: {error}",
                hint=f"wanted: {file}, from {url}",
            )
        ) from error


def load(network: nn.Module, file: Path, head: Iterable[str]) -> None:
    """Loads a state dict into `network`, in place.

    head: names of the entries whose shapes follow from the number of outputs. Those that differ
    in shape from the file's keep their first weights; everything else must be in the file.
    Raises InputError where the file is no state dict, is of another network, or holds NaN.
    """
    state = _read(file)
    own = network.state_dict()
    new = {name for name in head if name in own and _shape(state.get(name)) != own[name].shape}
    for name in new:
        state.pop(name, None)
    _refuse_other_network(file, state, own)
    missing, unexpected = network.load_state_dict(state, strict=False)
    lacking = sorted(set(missing) - new)
    # Heads that only train the layers below them; torchvision's files hold them.
    surplus = [name for name in unexpected if not name.startswith(("aux1.", "aux2.", "AuxLogits."))]
    if lacking or surplus:
        raise _not_these_weights(
            file,
            f"it lacks {_few(lacking)}" if lacking else f"it holds {_few(surplus)} as well",
        )


def _read(file: Path) -> dict[str, Any]:
    """The state dict of a file, with old torchvision's names of DenseNet's layers mended."""
    import pickle

    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    # What torch raises for a damaged file: EOFError and RuntimeError of its reader, KeyError and
    # others of its unpickler's stack.
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise _not_these_weights(file, str(error).partition("\n")[0]) from error
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise _not_these_weights(
            file, "it is no state dict, a mapping of names to tensors: torch.save(net.state_dict())"
        )
    for name in list(state):
        mended = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)
        if mended != name:
            state[mended] = state.pop(name)
    return state


def _refuse_other_network(file: Path, state: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if name in own and tensor.shape != own[name].shape:
            raise _not_these_weights(
                file, f"its {name} is {list(tensor.shape)}, the network's {list(own[name].shape)}"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise _not_these_weights(file, f"its {name} holds values that are not finite")


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _not_these_weights(file: Path, why: str) -> InputError:
    return InputError(f"model.weights: {file} cannot be loaded into this model: {why}")
