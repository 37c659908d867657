"""Files that cells share: made by the first cell that needs one, read by the others, named for what they come from."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from adm_core.errors import AdmError
from adm_files import replacing


def digest(what: str, parts: Iterable[Tensor]) -> str:
    """SHA-256 (hex) of a text and the content of tensors."""
    found = hashlib.sha256(what.encode())
    for part in parts:
        found.update(f"|{part.dtype}{tuple(part.shape)}|".encode())
        found.update(np.ascontiguousarray(part.detach().cpu().numpy()).data)
    return found.hexdigest()


def read(path: Path) -> tuple[dict[str, Tensor], str] | None:
    """The tensors of a file and its remark; None where there is no file, or a damaged one, which is told."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()["remark"]  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError) as error:
        print(f"artefact {path} is damaged ({error}): it is computed anew", file=sys.stderr)
        return None


def write(path: Path, tensors: Mapping[str, Tensor], remark: str = "") -> None:
    """Write a file, all of it or nothing: other workers may write the same one.

    Raises:
        AdmError: the disk refuses.
    """
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {"remark": remark})
    try:
        with replacing(path) as new:
            new.write_bytes(content)
    except OSError as error:
        raise AdmError(f"artefact {path} could not be written: {error}") from error
