"""Trained weights as safetensors: written whole or not at all, and read back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from adm_core.checkpoint import not_finite
from adm_core.errors import AdmError
from adm_core.taps import Network
from adm_core.task import Task
from adm_files import replacing
from suites.spec.networks import sha256


def save_weights(network: Network, path: Path) -> str:
    """Write a network's weights and buffers as safetensors, whole or not at all, and give the file's SHA-256."""
    with replacing(path) as new:
        save_file(_content(network), new)
    return sha256(path)


def check_savable(task: Task, student: Network, work: Path, teacher: Network | None = None) -> None:
    """Save networks as they will be once they are trained, and forget what was saved.

    Args:
        task: writes the student in its own library's form too.
        student: what is deployed, with any weights.
        work: a folder on the disk that will hold the result; made if need be.
        teacher: one that trains along.

    Raises:
        AdmError: it cannot be saved; says why.
    """
    work.mkdir(parents=True, exist_ok=True)
    try:
        for network in (student, *([teacher] if teacher else [])):
            save(_content(network))
        with tempfile.TemporaryDirectory(dir=work, prefix=".try-") as folder:
            task.export(student, Path(folder))
    except AdmError:
        raise
    except Exception as error:  # a library's writer may fail in any way
        raise AdmError(f"network '{network.name}' could not be saved once it is trained: {error}") from error


def load_weights(network: Network, path: Path) -> None:
    """Load a network's weights from safetensors.

    Raises:
        AdmError: no such file, damaged, of another network, or not finite.
    """
    place = f"{path.parent.name}/{path.name}"
    try:
        weights = load_file(path)
        network.module.load_state_dict(weights)
    except FileNotFoundError:
        raise AdmError(f"weights of teacher '{network.name}' are missing: {place}") from None
    except SafetensorError as error:
        raise AdmError(
            f"weights of teacher '{network.name}' cannot be read: {place}: {error}; "
            "delete its record and run again to train it anew"
        ) from error
    except RuntimeError as error:
        raise AdmError(f"{place} holds no weights of '{network.name}': {error}") from error
    broken = not_finite(weights)
    if broken:
        raise AdmError(
            f"weights of teacher '{network.name}' are not finite: {place}: {broken}; "
            "delete its record and run again to train it anew"
        )


def _content(network: Network) -> dict[str, Tensor]:
    """A network's state with every tensor in memory of its own, as the format wants it.

    Raises:
        AdmError: the state holds something else than dense tensors.
    """
    content: dict[str, Tensor] = {}
    taken: set[int] = set()
    state: dict[str, Any] = network.module.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided:
            kind = f"a tensor of layout {value.layout}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise AdmError(f"network '{network.name}' cannot be saved: its state holds '{name}', {kind}; "
                           "what can be saved are dense tensors")  # fmt: skip
        dense = value.contiguous()
        memory = dense.untyped_storage().data_ptr()
        content[name] = dense.clone() if memory in taken else dense
        taken.add(memory)
    return content
