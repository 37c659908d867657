"""Which of their kernels the numerical libraries of a process use; told in its environment before they are loaded.

Torch, oneDNN, MKL and OpenCV have several versions of a kernel, one per instruction set, and take the widest that the
processor can run. These sum in different orders, so one recipe gives other bits on another generation of processors.
With ``portable`` kernels they stop at AVX2, which every x86 processor of the last ten years has. That is to make the
generations of one maker's processors alike; the makers are not, by MKL (docs/reproducing.md). Loads no torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from typing import Literal

from adm_core.cpu import instructions
from adm_core.errors import AdmError

Kernels = Literal["portable", "native"]

_LIMITS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENCV_CPU_DISABLE": "AVX512_SKX",
}
"""Variables that keep kernels to AVX2. On processors of other makers than Intel MKL takes no notice of its own."""
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_FIXED_WORKSPACE = ":4096:8"
"""With this workspace cuBLAS adds in the same order each time."""
_SPOILING = (
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_CPU_ISA_HINTS",
    "DNNL_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Variables that move numbers and belong to no recipe: other names of the limits, and precisions behind its back.

``MKL_CBWR`` promises the same bits on every processor, but on AMD's it knows no AVX2, and there it moves matrix-vector
products and decompositions from what they are without it.
"""
_ALL = (*_LIMITS, _CUBLAS, *_SPOILING)


def variables(kernels: Kernels) -> dict[str, str]:
    """The variables that a process needs; those of other names that choose kernels must not be there.

    Kernels of a CPU are limited where Linux tells of AVX2, elsewhere only those of GPUs are.
    """
    if kernels == "native":
        return {}
    limits = dict(_LIMITS) if "avx2" in instructions() else {}
    if "avx512f" not in instructions():
        limits.pop("OPENCV_CPU_DISABLE", None)  # OpenCV warns of what is not there to disable
    return {**limits, _CUBLAS: _FIXED_WORKSPACE}


def settle(environment: MutableMapping[str, str], kernels: Kernels) -> None:
    """Make the environment of a process to be started ask for these kernels, whatever it asked for."""
    for name in _ALL:
        environment.pop(name, None)
    environment.update(variables(kernels))


def settle_here(kernels: Kernels) -> None:
    """Make this process use these kernels.

    Raises:
        AdmError: torch is loaded already, with others.
    """
    wanted = variables(kernels)
    late = [name for name in _ALL if "torch" in sys.modules and _matters(name, os.environ.get(name), wanted.get(name))]
    if late:
        there = ", ".join(f"{name}={os.environ.get(name, '(not set)')}" for name in late)
        raise AdmError(
            f"kernels: {kernels}: torch is loaded in this process with other kernels ({there}); "
            "use --executor local, which trains in a process of its own"
        )
    settle(os.environ, kernels)


def _matters(name: str, now: str | None, wanted: str | None) -> bool:
    """Whether another value than the present one would choose other kernels, now that torch is loaded."""
    if now == wanted:
        return False
    if name == _CUBLAS:  # is read when a GPU is first used
        return bool(sys.modules["torch"].cuda.is_initialized())
    narrow = "avx512f" not in instructions() and {now, wanted} <= {None, _LIMITS.get(name)}
    return not narrow
