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

_NESTINGS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
)
"""Keys under which training code keeps the weights, the plainest first; averages after what they average."""
_WRAPPED = ("module.", "_orig_mod.")
"""What DistributedDataParallel and ``torch.compile`` put before every name."""
_COUNTER = "n_averaged"
"""What ``AveragedModel`` keeps beside the network, which stands below ``module.``."""
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


def of_other_code(state: Mapping[str, Any], code: Mapping[str, str]) -> str | None:
    """Why a checkpoint is not to be gone on from; None where the code that wrote it is the present one.

    Args:
        state: the checkpoint's content; one without ``code`` was written by an older version.
        code: part to SHA-256 of its source, as it is now.
    """
    written = state.get("code", {})
    others = [part for part in {**written, **code} if written.get(part) != code.get(part)]
    return f"started over: the checkpoint is of other code ({', '.join(others)})" if others else None


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
    (``state_dict``, ``model``, ...), names lose the prefixes of DistributedDataParallel and ``torch.compile``, and the
    counter of ``torch.optim.swa_utils.AveragedModel`` is left out.

    Args:
        path: the file.
        trusted: run the code that a pickled file may hold.

    Returns:
        Name to tensor, names as the software that wrote them has them.

    Raises:
        AdmError: no such file, it holds code and is not trusted, it holds no weights, or such as are not finite.
    """
    if not path.is_file():
        raise AdmError(f"checkpoint {path}: no such file")
    found = _weights_in(_read_safetensors(path) if _is_safetensors(path) else _unpickle(path, trusted))
    if found is None:
        keys = "a mapping from names to tensors, at the top or under " + ", ".join(f"'{key}'" for key in _NESTINGS)
        raise AdmError(f"checkpoint {path}: holds no weights; expected {keys}")
    found = _unwrapped(found)
    broken = not_finite(found)
    if broken:
        raise AdmError(f"checkpoint {path}: its weights are not finite: {broken}")
    return found


def _unwrapped(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names that they have inside all wrappers; an average's counter is left out."""
    names = [name for name in found if name != _COUNTER]
    for prefix in _WRAPPED if len(names) == len(found) else _WRAPPED[:1]:
        if names and all(name.startswith(prefix) for name in names):
            return _unwrapped({name.removeprefix(prefix): found[name] for name in names})
    return found


def fit(network: Network, weights: Mapping[str, Tensor], where: str, benchmark: str) -> str:
    """Put weights from elsewhere into a network, all of them or none.

    A prefix that every name has, such as ``model.``, is dropped where all names then are the network's; one that all
    the network's own names have need not be there.

    Args:
        network: takes the weights in place.
        weights: name to tensor; every name must be the network's and every shape as there.
        where: the file, for messages.
        benchmark: whose classes the network predicts, for messages.

    Returns:
        Which prefix was dropped, for people; empty where none was.

    Raises:
        AdmError: made for another number of classes, or another network's.
    """
    module = unwrap(network.module)
    own = module.state_dict()
    weights, told = _renamed(weights, own)
    missing = _missing(own, weights)
    foreign = [name for name in weights if name not in own]
    unlike = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    classes = _classes(network, own), _classes(network, weights)
    if None not in classes and classes[0] != classes[1]:
        raise AdmError(f"{where}: checkpoint has {classes[1]} classes, benchmark {benchmark} has {classes[0]}")
    if missing or foreign or unlike:
        shapes = [f"{name} {list(weights[name].shape)} for {list(own[name].shape)}" for name in unlike]
        parts = (
            _listed("missing", missing),
            _listed("not the network's", foreign),
            _listed("of another shape", shapes),
        )
        reason = "; ".join(part for part in parts if part)
        raise AdmError(f"{where}: these are not weights of network '{network.name}': {reason}")
    module.load_state_dict(dict(weights), strict=False)
    return told


def not_finite(weights: Mapping[str, Any]) -> str:
    """Which tensors hold NaN or infinity, ``2 of 7 (a, b)``, the first three by name; empty where none does.

    Args:
        weights: name to tensor; what is no tensor of floating-point numbers is left out. Waits for the device once.
    """
    floats = {name: t for name, t in weights.items() if isinstance(t, Tensor) and t.is_floating_point()}
    if not floats or bool(torch.stack([t.isfinite().all() for t in floats.values()]).all()):
        return ""
    return _listed(f"of {len(floats)}", [name for name, t in floats.items() if not bool(t.isfinite().all())])


def _missing(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """The network's names that the weights lack, but for what need not be there.

    Batch counters: nothing reads them where statistics are running means, and files from before PyTorch 0.4.1 have
    none. A tensor that a network has under several names: safetensors' ``save_model`` keeps it under one.
    """
    given = {own[name].data_ptr() for name in weights if name in own and own[name].numel()}
    lacking = (name for name in own if name not in weights and not name.endswith("num_batches_tracked"))
    return [name for name in lacking if own[name].data_ptr() not in given]


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    """The weights by the network's names, as far as a common prefix makes the difference, and which was dropped.

    Where no prefix makes all names fit, the weights are renamed as most names fit, for the message.
    """
    candidates = []
    for dropped in _prefixes(weights):
        for added in _prefixes(own):
            names = {added + name.removeprefix(dropped): tensor for name, tensor in weights.items()}
            fitting = sum(name in own for name in names)
            candidates.append((fitting, dropped, added, names))
            if fitting == len(names) and not _missing(own, names):
                return names, f"'{dropped}' before every name was dropped" if dropped else ""
    return max(candidates, key=lambda candidate: candidate[0])[3], ""


def _prefixes(names: Iterable[str]) -> list[str]:
    """What all names begin with, shortest first: the empty text, then whole parts of their paths."""
    found = [""]
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        found.append(f"{found[-1]}{parts[0]}.")
    return found


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
