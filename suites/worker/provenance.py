"""What a run ran on, as far as a record may tell: versions and hardware, no host, user or path."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import torch

from adm_core.cpu import cores, told
from adm_core.recipe import Recipe

_THIS_FILE = Path(__file__).resolve()


def environment(
    device: torch.device, recipe: Recipe, libraries: Iterable[str] = (), processes: int = 1
) -> dict[str, str | int | bool | None]:
    """Versions, hardware, and the state of the checkout when this module was loaded.

    Args:
        device: where training happened.
        recipe: of training; ``cpu_capability`` is what torch's own kernels use of the CPU.
        libraries: further modules whose versions are told, where this process has loaded them.
        processes: how many trained the cell together, each on a device of its own.
    """
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else _cpu_name()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "adm-bench": version("adm-bench"),
        "cuda": torch.version.cuda if on_gpu else None,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{processes} × {name}" if processes > 1 else name,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cores": cores(),
        "precision": recipe.precision,
        "kernels": recipe.kernels,
        "deterministic": torch.are_deterministic_algorithms_enabled() if on_gpu else None,
        **_built_with(),
        **_CHECKOUT,
        **_versions(("numpy", *libraries)),
    }


def _versions(modules: Iterable[str]) -> dict[str, str]:
    """Of those that this process has loaded; each says itself which version it is."""
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in modules}
    return {name: str(told) for name, told in loaded.items() if told is not None}


def _built_with() -> dict[str, str | None]:
    """Versions of the libraries inside torch that multiply on a CPU; None where it was built without."""
    build = torch.__config__.show()
    patterns = {"onednn": r"MKL-DNN v([\d.]+)", "mkl": r"Math Kernel Library Version ([\d.]+)"}
    found = {name: re.search(pattern, build) for name, pattern in patterns.items()}
    return {name: match and match[1] for name, match in found.items()}


def _cpu_name() -> str:
    return told().get("model name") or platform.processor() or platform.machine()


def _checkout() -> dict[str, str | bool | None]:
    """Commit and whether tracked files differ from it; None where no git checkout holds this code.

    An installed copy may lie inside the checkout of another project, whose commit says nothing about it.
    """

    def git(*arguments: str) -> str | None:
        try:
            command, here = ["git", *arguments], _THIS_FILE.parent
            done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", _THIS_FILE.name) is None:
        return {"git_commit": None, "git_dirty": None}
    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": None if status is None else bool(status)}


_CHECKOUT = _checkout()  # before anything is trained: by its end the checkout may be another
