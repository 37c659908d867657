"""GPUs as slots: what NVML says of a machine, and what CUDA_VISIBLE_DEVICES leaves of it.

The library stands for a machine here: its own errors and constants, with answers written down per machine.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from command_line import adm

from adm_core.cpu import cores
from adm_core.errors import AdmError
from suites.executors.gpus import Gpu, driver_version, gpus
from suites.executors.slots import expected, slots

GIB = 2**30


@dataclass
class Device:
    """One GPU or one partition as NVML has it; ``slices`` has None where a place for a partition is empty."""

    uuid: str
    memory: int | None = 80 * GIB
    slices: list[Device | None] | None = None
    lost: bool = False


@dataclass
class Machine:
    """The functions of ``pynvml`` that are called, for a machine with these devices."""

    devices: list[Device]
    driver: bool = True
    opened: int = 0
    NVMLError: Any = field(default=pynvml.NVMLError)
    NVMLError_NotFound: Any = field(default=pynvml.NVMLError_NotFound)
    NVMLError_NotSupported: Any = field(default=pynvml.NVMLError_NotSupported)
    NVML_DEVICE_MIG_ENABLE: int = pynvml.NVML_DEVICE_MIG_ENABLE

    def nvmlInit(self) -> None:
        if not self.driver:
            raise pynvml.NVMLError_DriverNotLoaded
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        assert self.opened
        return "580.95.05"

    def nvmlDeviceGetCount(self) -> int:
        assert self.opened
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Device:
        if self.devices[index].lost:
            raise pynvml.NVMLError_GpuIsLost
        return self.devices[index]

    def nvmlDeviceGetName(self, device: Device) -> str:
        return "NVIDIA H100"

    def nvmlDeviceGetUUID(self, device: Device) -> str:
        return device.uuid

    def nvmlDeviceGetMemoryInfo(self, device: Device) -> Any:
        if device.memory is None:
            raise pynvml.NVMLError_NotSupported
        return SimpleNamespace(total=device.memory)

    def nvmlDeviceGetMigMode(self, device: Device) -> list[int]:
        if device.slices is None:
            raise pynvml.NVMLError_NotSupported
        return [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]

    def nvmlDeviceGetMaxMigDeviceCount(self, device: Device) -> int:
        return len(device.slices or [])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Device, index: int) -> Device:
        part = (device.slices or [])[index]
        if part is None:
            raise pynvml.NVMLError_NotFound
        return part


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with two GPUs whose UUIDs begin alike, and a third that has two of three partitions."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    parts = [Device("MIG-77", 10 * GIB), None, Device("MIG-78", 20 * GIB)]
    made = Machine([Device("GPU-1a"), Device("GPU-1b"), Device("GPU-2c", slices=parts)])
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def visible(machine: Machine) -> list[str]:
    """What can be seen, with the library closed again."""
    found = [gpu.id for gpu in gpus()]
    assert machine.opened == 0
    return found


def test_a_partitioned_gpu_stands_for_its_partitions(machine: Machine) -> None:
    assert visible(machine) == ["GPU-1a", "GPU-1b", "MIG-77", "MIG-78"]
    assert gpus()[3] == Gpu("MIG-78", "NVIDIA H100", 20 * GIB) and driver_version() == "580.95.05"
    machine.devices[2].slices = [None, None]
    assert visible(machine) == ["GPU-1a", "GPU-1b"]  # a GPU set to have partitions computes nothing without one


def test_a_lost_gpu_is_left_out_and_one_without_memory_of_its_own_is_not(machine: Machine) -> None:
    machine.devices[0].lost, machine.devices[1].memory = True, None
    assert visible(machine) == ["GPU-1b", "MIG-77", "MIG-78"] and gpus()[0].memory is None


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        ("", []),
        ("-1", []),
        ("none", []),
        ("0", ["0"]),
        ("1,0", ["1", "0"]),
        (" 1 , 0 ", ["1", "0"]),
        ("0,3,1", ["0"]),
        ("0,-1,1", ["0"]),
        ("0,,1", ["0"]),
        ("0,0", []),
        ("1,0,1", []),
        ("GPU-1b", ["GPU-1b"]),
        ("GPU-1", []),
        ("GPU-1b,GPU-1,GPU-1a", ["GPU-1b"]),
        ("GPU-2,GPU-1a", ["GPU-2c", "GPU-1a"]),
        ("MIG-78,GPU-1b", ["MIG-78", "GPU-1b"]),
        ("GPU-1a,GPU-9", ["GPU-1a"]),
    ],
)
def test_visible_devices_are_read_as_cuda_does(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, named: str, seen: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible(machine) == seen
    assert expected("auto") == len(slots("auto")) == (len(seen) or cores())
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots("auto")] == (seen or [""] * cores())


def test_workers_are_spread_over_gpus_and_share_the_cores(machine: Machine) -> None:
    found = slots("cuda", 6)
    tied = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found]
    assert tied == ["GPU-1a", "GPU-1b", "MIG-77", "MIG-78", "GPU-1a", "GPU-1b"] and all(slot.on_gpu for slot in found)
    assert {slot.environment["OMP_NUM_THREADS"] for slot in found} == {str(max(1, cores() // 6))}
    assert [slot.on_gpu for slot in slots("cpu", 2)] == [False, False]
    assert (expected("auto"), expected("cpu"), expected("auto", 3)) == (4, cores(), 3)


def test_several_workers_on_each_gpu_share_its_memory(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    found = [slot.environment for slot in slots("auto", per_gpu=3)]
    assert len(found) == expected("auto", per_gpu=3) == 12
    assert Counter(each["CUDA_VISIBLE_DEVICES"] for each in found) == dict.fromkeys(
        ["GPU-1a", "GPU-1b", "MIG-77", "MIG-78"], 3
    )
    shares = {each["PYTORCH_ALLOC_CONF"] for each in found}
    assert shares == {"expandable_segments:True,per_process_memory_fraction:0.3000"}
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")  # the old name, which torch looks at first
    older = slots("auto", per_gpu=3)[0].environment["PYTORCH_CUDA_ALLOC_CONF"]
    assert older == "max_split_size_mb:64,per_process_memory_fraction:0.3000"
    monkeypatch.delenv("PYTORCH_ALLOC_CONF")
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    assert {each["PYTORCH_ALLOC_CONF"] for each in (slot.environment for slot in slots("auto", 5))} == {
        "per_process_memory_fraction:0.4500"
    }
    assert not any("PYTORCH_ALLOC_CONF" in slot.environment for slot in slots("auto", per_gpu=1))


def test_a_share_of_a_gpu_is_told_where_it_cannot_be(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AdmError, match="--workers 2 and --per-gpu 3: give one of them"):
        slots("auto", 2, 3)
    with pytest.raises(AdmError, match="--per-gpu 0: at least 1"):
        slots("auto", per_gpu=0)
    with pytest.raises(AdmError, match="--per-gpu 3: cells are trained on the CPU; use --workers"):
        slots("cpu", per_gpu=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(AdmError, match="--per-gpu 3: no GPU can be seen here"):
        slots("auto", per_gpu=3)


def test_a_cell_may_have_several_gpus_or_cores(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [slot.environment for slot in slots("auto", gpus_per_cell=2)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["GPU-1a,GPU-1b", "MIG-77,MIG-78"]
    assert {each["OMP_NUM_THREADS"] for each in found} == {str(max(1, cores() // 4))}
    assert expected("auto", gpus_per_cell=2) == 2 and len(slots("auto", gpus_per_cell=3)) == 1
    assert len(slots("auto", 1, gpus_per_cell=2)) == 1
    with pytest.raises(AdmError, match="--per-gpu 2 and --gpus-per-cell 2: give one of them"):
        slots("auto", per_gpu=2, gpus_per_cell=2)
    with pytest.raises(AdmError, match="--gpus-per-cell 2: 6 GPUs are wanted, and there are 4 here"):
        slots("auto", 3, gpus_per_cell=2)
    monkeypatch.setattr("suites.executors.slots.cores", lambda: 5)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots("cpu", gpus_per_cell=2)] == ["", ""]
    with pytest.raises(AdmError, match="--gpus-per-cell 6: 6 CPU cores are wanted, and there are 5 here"):
        slots("cpu", gpus_per_cell=6)


def test_torch_knows_the_setting_that_gives_a_share(machine: Machine) -> None:
    """Its parser refuses a key that it does not know; what it does with the memory only a GPU can show."""
    import torch

    before = torch._C._accelerator_getAllocatorSettings()
    try:
        torch._C._accelerator_setAllocatorSettings(slots("auto", per_gpu=3)[0].environment["PYTORCH_ALLOC_CONF"])
        with pytest.raises(ValueError, match="Unrecognized key"):
            torch._C._accelerator_setAllocatorSettings("share_of_memory:0.3")
    finally:
        torch._C._accelerator_setAllocatorSettings(before or "per_process_memory_fraction:1.0")


@pytest.mark.parametrize("named", ["-1", "", " ", "none", "-1,0", "NoDevFiles", "99"])
def test_where_gpus_are_hidden_there_is_a_worker_per_core(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    found = slots("auto")
    assert len(found) == expected("auto") == cores() and not any(slot.on_gpu for slot in found)
    assert {slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found} == {""}
    with pytest.raises(AdmError, match="--device cuda: no GPU can be seen here"):
        slots("cuda")


def test_a_machine_without_a_driver_has_a_worker_per_core(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.driver = False
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert (gpus(), driver_version(), len(slots("auto")), expected("auto")) == ([], None, cores(), cores())
    with pytest.raises(AdmError, match="--device cuda: no GPU can be seen here"):
        slots("cuda")


def test_what_the_real_library_says_here_agrees_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(gpus()) == torch.cuda.device_count()
    assert (driver_version() is None) or len(driver_version().split(".")) >= 2  # type: ignore[union-attr]


def test_doctor_tells_driver_names_and_memory(machine: Machine) -> None:
    machine.devices[1].memory = None
    words = " ".join(adm("doctor").out.split())
    assert "NVIDIA driver: 580.95.05 GPU GPU-1a: NVIDIA H100, 80.0 GiB" in words
    assert "GPU GPU-1b: NVIDIA H100, the machine's memory GPU MIG-77: NVIDIA H100, 10.0 GiB" in words
    assert adm("doctor", "--json").json["devices"]["gpus"][2] == {
        "id": "MIG-77", "name": "NVIDIA H100", "memory": 10 * GIB,
    }  # fmt: skip
    machine.driver = False
    assert "NVIDIA driver: none torch sees" in " ".join(adm("doctor").out.split())


@pytest.mark.parametrize("words", ["--help", "list methods"])
def test_commands_that_run_nothing_do_not_load_the_library(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it is an error
    assert adm(*words.split()).code == 0
    with pytest.raises(ImportError):
        gpus()
