"""The GPUs of this machine, as NVIDIA's management library (NVML) tells them; torch and CUDA are not loaded."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """A GPU, or one partition (MIG) of a GPU.

    Attributes:
        id: what ``CUDA_VISIBLE_DEVICES`` calls it: its UUID, or the index that the variable already gives.
        name: the product's, e.g. ``NVIDIA H100 80GB HBM3``.
        memory: in bytes; None for those that have none of their own and use the machine's.
    """

    id: str
    name: str
    memory: int | None


def gpus() -> list[Gpu]:
    """The GPUs that CUDA would show to this process, a partitioned one as its partitions.

    All of them, or those that ``CUDA_VISIBLE_DEVICES`` names; none where there is no driver.
    """
    machine = _machine()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [usable for _, parts in machine for usable in parts]
    return _visible(named.split(","), machine)


def driver_version() -> str | None:
    """The version of the NVIDIA driver; None where there is none."""
    with _nvml() as nvml:
        return str(nvml.nvmlSystemGetDriverVersion()) if nvml else None


def _visible(names: Sequence[str], machine: Sequence[tuple[Gpu, list[Gpu]]]) -> list[Gpu]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` names, read as the CUDA driver does.

    An entry is an index (anything may follow the digits) or the beginning of one UUID. The first that is neither ends
    the list; one that comes twice leaves nothing visible.
    """
    wholes = [whole for whole, _ in machine]
    known = {gpu.id: gpu for whole, parts in machine for gpu in (whole, *parts)}
    found: list[Gpu] = []
    for name in names:
        if number := re.match(r"\s*(\d+)", name):
            # The index is passed on as it is: CUDA may count in another order than NVML.
            index = int(number[1])
            matching = [replace(wholes[index], id=str(index))] if index < len(wholes) else []
        else:
            matching = [gpu for id, gpu in known.items() if name.strip() and id.startswith(name.strip())]
        if len(matching) != 1:
            break
        if matching[0] in found:
            return []
        found += matching
    return found


def _machine() -> list[tuple[Gpu, list[Gpu]]]:
    """Every GPU, with what can be computed on: its partitions where it is set to have some, else itself."""
    found = []
    with _nvml() as nvml:
        for index in range(nvml.nvmlDeviceGetCount() if nvml else 0):
            with contextlib.suppress(nvml.NVMLError):  # one that has fallen off the bus
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                name = str(nvml.nvmlDeviceGetName(handle))
                whole = _gpu(nvml, handle, name)
                found.append((whole, _partitions(nvml, handle, name) if _is_partitioned(nvml, handle) else [whole]))
    return found


def _is_partitioned(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE)
    except nvml.NVMLError:  # most GPUs have no such mode
        return False


def _partitions(nvml: Any, whole: Any, name: str) -> list[Gpu]:
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(whole)):
        with contextlib.suppress(nvml.NVMLError_NotFound):  # not all places are taken
            found.append(_gpu(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, index), name))
    return found


def _gpu(nvml: Any, handle: Any, name: str) -> Gpu:
    try:
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError_NotSupported:
        memory = None
    return Gpu(str(nvml.nvmlDeviceGetUUID(handle)), name, memory)


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """The library while it is in use; None where there is no driver, or one that does not answer."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()
