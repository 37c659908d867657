"""Which kernels a process uses: what its environment says, whatever the user's shell said before."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch

from adm_core import cpu, kernels
from adm_core.errors import AdmError

ZEN2, ZEN4 = frozenset({"avx", "avx2", "fma"}), frozenset({"avx", "avx2", "fma", "avx512f", "avx512bw"})
SHELL = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "HOME": "/"}
needs_avx2 = pytest.mark.skipif("avx2" not in cpu.instructions(), reason="portable kernels are AVX2's")


@pytest.fixture
def on(monkeypatch):
    """Makes the processor one with given instruction sets."""
    return lambda sets: monkeypatch.setattr(kernels, "instructions", lambda: sets)


@pytest.mark.parametrize("sets", [ZEN2, ZEN4])
def test_portable_limits_every_library_whatever_the_shell_says(on, sets):
    on(sets)
    environment = dict(SHELL)
    kernels.settle(environment, "portable")
    assert environment.pop("OPENCV_CPU_DISABLE", None) == ("AVX512_SKX" if "avx512f" in sets else None)
    assert environment == {
        "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "HOME": "/",
    }  # fmt: skip


def test_native_leaves_no_limit(on):
    on(ZEN4)
    environment = dict(SHELL)
    kernels.settle(environment, "portable")
    kernels.settle(environment, "native")
    assert environment == {"HOME": "/"}


def test_processors_without_avx2_are_not_told_to_use_it(on):
    on(frozenset())
    environment = dict(SHELL)
    kernels.settle(environment, "portable")
    assert environment == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "HOME": "/"}


def test_other_kernels_than_those_of_a_loaded_torch_are_refused_where_they_differ(on, monkeypatch):
    before = dict(os.environ)
    monkeypatch.setattr(os, "environ", before)  # torch has read the real one
    on(ZEN4)
    kernels.settle(before, "native")
    with pytest.raises(AdmError, match=r"kernels: portable: torch is loaded .*ATEN_CPU_CAPABILITY=\(not set\).*local"):
        kernels.settle_here("portable")
    on(ZEN2)
    kernels.settle_here("portable")  # the widest there is
    assert before["ATEN_CPU_CAPABILITY"] == "avx2"
    kernels.settle_here("native")
    before["MKL_CBWR"] = "COMPATIBLE"
    with pytest.raises(AdmError, match="MKL_CBWR=COMPATIBLE"):
        kernels.settle_here("native")


@needs_avx2
def test_tests_run_on_portable_kernels():
    assert torch.backends.cpu.get_cpu_capability() == "AVX2"


PRODUCTS = """
import hashlib, os, sys
from adm_core import kernels
kernels.settle_here("portable")
import torch
torch.manual_seed(0)
x, w, m = torch.randn(16, 8, 9, 9), torch.randn(12, 8, 3, 3), torch.randn(64, 300)
made = torch.conv2d(x, w), m @ m.T, m @ m[0], m.exp().sum(1), torch.linalg.qr(m[:, :20])[1]
digests = [hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for t in made]
print(torch.backends.cpu.get_cpu_capability(), *digests)
"""


@needs_avx2
def test_a_shell_that_asks_for_other_kernels_moves_no_bit():
    shell = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
    command = [sys.executable, "-c", PRODUCTS]
    run = subprocess.run(command, env={**os.environ, **shell}, capture_output=True, text=True, check=True)
    torch.manual_seed(0)
    x, w, m = torch.randn(16, 8, 9, 9), torch.randn(12, 8, 3, 3), torch.randn(64, 300)
    made = torch.conv2d(x, w), m @ m.T, m @ m[0], m.exp().sum(1), torch.linalg.qr(m[:, :20])[1]
    ours = [hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for t in made]
    assert run.stdout.split() == ["AVX2", *ours]
