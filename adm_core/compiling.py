"""Networks run compiled by ``torch.compile``, in fewer and larger kernels, as a recipe's ``compile`` asks for."""

from __future__ import annotations

from typing import Literal

import torch

from adm_core.errors import AdmError
from adm_core.show import Forward, run

MOST_GRAPHS = 64
"""Graphs of one process at most: one for each architecture, set of taps, shape and mode; torch's own limit is 8."""


def compiled(mode: Literal[True, "reduce-overhead"], device: torch.device) -> Forward:
    """What runs networks compiled, each when it is first run.

    The networks themselves stay as they are: names of weights, copies, evaluation and export know nothing of it. Every
    set of taps has a graph of its own, as torch does not see that other modules are listened to than before.

    Args:
        mode: True: torch's default; ``reduce-overhead``: on a GPU kernels are replayed as CUDA graphs as well, so that
            a tensor that a network shows holds until :func:`begin_step` alone.
        device: where networks run.

    Raises:
        AdmError: what makes machine code is missing.
    """
    _check_tools(device)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_GRAPHS)
    made: Forward = torch.compile(run, dynamic=False, mode=None if mode is True else mode)
    return made


def begin_step() -> None:
    """What networks showed in the step before is no longer needed, so that its memory may be written to again."""
    torch.compiler.cudagraph_mark_step_begin()


def _check_tools(device: torch.device) -> None:
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise AdmError("recipe.compile needs Triton on a GPU (pip install triton), or a newer GPU; or leave it out")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise AdmError("recipe.compile needs a C++ compiler on a CPU, such as g++, and there is none") from None
