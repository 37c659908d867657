"""One-file checkpoints, written atomically and loaded without running pickled code; and weights from elsewhere."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from adm_core.errors import AdmError
from adm_core.taps import Network, unwrap
from adm_files import replacing

_NESTINGS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
"""Keys under which training code keeps the weights, the plainest first."""
_WRAPPED = ("module.", "_orig_mod.")
"""What DistributedDataParallel and ``torch.compile`` put before every name."""
_CODE = re.compile(r"GLOBAL ([\w.]+)|TorchScript|legacy \.tar")
"""How torch says that a file holds more than data."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, and lists and dictionaries of them) to ``path`` or not at all.

    Raises:
        AdmError: the disk refuses; the previous checkpoint is intact.
    """
    try:
        with replacing(path) as new:
            torch.save(state, new)
    except (OSError, RuntimeError) as error:
        raise AdmError(f"checkpoint {path.name} could not be written: {error}; the previous one is intact") from error


def load(path: Path) -> dict[str, Any] | None:
    """The state saved at ``path``, on the CPU, or None when there is none.

    A damaged file counts as none, and a warning says so.

    Raises:
        AdmError: the file is whole and cannot be read.
    """
    if not path.exists():
        return None
    name = f"checkpoint {path.parent.name}/{path.name}"
    try:
        flaw = _flaw(path)
        if flaw is not None:
            warnings.warn(f"{name} is truncated or damaged ({flaw}); training starts over", stacklevel=2)
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AdmError(f"{name} cannot be read ({reason}); delete it, and training starts over") from error
    return state


def _flaw(path: Path) -> str | None:
    """What is wrong with the checksums of a file that ``torch.save`` wrote, which ``torch.load`` does not compare."""
    try:
        with zipfile.ZipFile(path) as file:
            spoilt = file.testzip()
    except OSError:
        raise
    except Exception as error:  # zipfile raises of all kinds where headers are spoilt
        return str(error) or type(error).__name__
    return None if spoilt is None else f"bad checksum of {spoilt}"


def load_foreign(path: Path, trusted: bool = False) -> dict[str, Tensor]:
    """The weights in a file that other software wrote, on the CPU.

    Read are safetensors files and what ``torch.save`` wrote; the weights may stand under a common key
    (``state_dict``, ``model``, ...), and names lose the prefixes of DistributedDataParallel and ``torch.compile``.

    Args:
        path: the file.
        trusted: run the code that a pickled file may hold.

    Returns:
        Name to tensor, names as the software that wrote them has them.

    Raises:
        AdmError: no such file, it holds code and is not trusted, or it holds no weights.
    """
    if not path.is_file():
        raise AdmError(f"checkpoint {path}: no such file")
    found = _weights_in(_read_safetensors(path) if _is_safetensors(path) else _unpickle(path, trusted))
    if found is None:
        keys = "a mapping from names to tensors, at the top or under " + ", ".join(f"'{key}'" for key in _NESTINGS)
        raise AdmError(f"checkpoint {path}: holds no weights; expected {keys}")
    for prefix in _WRAPPED * 2:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def fit(network: Network, weights: Mapping[str, Tensor], where: str, benchmark: str) -> None:
    """Put weights from elsewhere into a network, all of them or none.

    Args:
        network: takes the weights in place.
        weights: name to tensor; every name must be the network's and every shape as there.
        where: the file, for messages.
        benchmark: whose classes the network predicts, for messages.

    Raises:
        AdmError: made for another number of classes, or another network's.
    """
    module = unwrap(network.module)
    own = module.state_dict()
    # Nothing reads these counters where statistics are running means; files from before PyTorch 0.4.1 have none.
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    foreign = [name for name in weights if name not in own]
    unlike = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    classes = _classes(network, own), _classes(network, weights)
    if None not in classes and classes[0] != classes[1]:
        raise AdmError(f"{where}: checkpoint has {classes[1]} classes, benchmark {benchmark} has {classes[0]}")
    if missing or foreign or unlike:
        shapes = [f"{name} {list(weights[name].shape)} for {list(own[name].shape)}" for name in unlike]
        told = (
            _listed("missing", missing),
            _listed("not the network's", foreign),
            _listed("of another shape", shapes),
        )
        reason = "; ".join(part for part in told if part)
        raise AdmError(f"{where}: these are not weights of network '{network.name}': {reason}")
    module.load_state_dict(dict(weights), strict=False)


def _classes(network: Network, weights: Mapping[str, Tensor]) -> int | None:
    """Outputs of the layer that gives the logits, as its weights tell."""
    path = network.head or network.taps.get("logits")
    found = weights.get(f"{path}.weight")
    return len(found) if found is not None and found.ndim else None


def _listed(what: str, names: Iterable[str]) -> str:
    """``2 missing (a, b)``, the first three by name; empty for none."""
    names = list(names)
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more})" if names else ""


def _is_safetensors(path: Path) -> bool:
    """Whether a JSON header follows the eight bytes of its length; no pickle and no archive begins so."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        found: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise AdmError(f"checkpoint {path}: is a damaged safetensors file: {error}") from error
    return found


def _unpickle(path: Path, trusted: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=not trusted)
        except Exception as error:
            said = str(error)
            code = None if trusted else _CODE.search(said)
            if code:
                called = f" ({code[1]})" if code[1] else ""
                raise AdmError(
                    f"checkpoint {path}: holds code{called}, which loading it would run; "
                    f"if you trust its source, run with --trust {path}"
                ) from error
            about = said.split("WeightsUnpickler error:")[-1].strip().splitlines()
            reason = about[0] if about and not isinstance(error, KeyError) else type(error).__name__
            kind = "not a checkpoint" if isinstance(error, pickle.UnpicklingError | KeyError) else "cannot be read"
            raise AdmError(
                f"checkpoint {path}: {kind}: neither safetensors nor whole from torch.save ({reason})"
            ) from error


def _weights_in(content: Any) -> dict[str, Tensor] | None:
    """The first mapping from names to tensors, outermost first; a pickled module stands for its state."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping) or not content:
        return None
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        return dict(content)
    inner = (_weights_in(content[key]) for key in _NESTINGS if key in content)
    return next((found for found in inner if found), None)
