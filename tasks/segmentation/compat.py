"""MMSegmentation 1.2 on a current torch: import ``mmseg`` through :func:`load` and nowhere else.

MMCV's compiled operators can hardly be built for a current torch, and ``mmcv-lite`` comes without them, yet
MMSegmentation imports them by name. So a stand-in takes their place: a network that uses one of them says which.
Where full ``mmcv`` is installed it is used as it is. Checkpoints are read without running code that they hold.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import warnings
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType
from typing import Any

from adm_core.errors import AdmError

_OPERATORS = "mmcv._ext"


class _NoOperators(ModuleType):
    """Stands in for MMCV's compiled module: every operator can be looked up, and says what is missing when called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> None:
            raise AdmError(
                f"this network needs MMCV's compiled operator '{name}', which mmcv-lite does not have; install full "
                "mmcv (2.0.0rc4 to 2.1) built for your torch, or choose a network without it"
            )

        return missing


@functools.cache
def load() -> ModuleType:
    """The package ``mmseg``, with its modules registered and its scope in force.

    Raises:
        AdmError: MMSegmentation or one of its requirements is not installed, or their versions do not go together.
    """
    if importlib.util.find_spec("mmcv") is None:
        raise AdmError("segmentation needs MMSegmentation, which is not installed; make setup installs it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _read_configs_without_yapf()
            _stand_in_for_operators()
            mmseg = _register()
        except (ImportError, AssertionError) as error:
            raise AdmError(f"MMSegmentation cannot be imported: {str(error).splitlines()[0]}") from error
    _read_weights_safely()
    _be_quiet()
    _stay_in_one_thread()
    return mmseg


def _read_configs_without_yapf() -> None:
    """Import MMEngine's configurations without the formatter yapf, which they need to print one, not to read one.

    The first import of yapf in a user's account writes a cache that another process can read while it is half
    written (0.43 renames it before it is flushed), so that workers started together would fail there.
    """
    if "mmengine.config" in sys.modules:
        return

    def format_code(*arguments: Any, **settings: Any) -> Any:
        return importlib.import_module("yapf.yapflib.yapf_api").FormatCode(*arguments, **settings)

    names = ("yapf", "yapf.yapflib", "yapf.yapflib.yapf_api")
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__.update(FormatCode=format_code, __version__=version("yapf"))
    try:
        importlib.import_module("mmengine.config")
    finally:
        for name in absent:
            del sys.modules[name]


def _stand_in_for_operators() -> None:
    if importlib.util.find_spec(_OPERATORS) is None:
        stand_in = _NoOperators(_OPERATORS)
        # A specification without a loader is how MMEngine learns that there are no operators.
        stand_in.__spec__ = ModuleSpec(_OPERATORS, None)
        sys.modules[_OPERATORS] = stand_in


class _Timm:
    """Imports timm when something of it is used: one backbone does, and the import costs every worker two seconds."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("timm"), name)


def _register() -> ModuleType:
    """Import MMSegmentation without timm, which its backbone gets afterwards, and register its modules."""
    without = "timm" not in sys.modules
    if without:
        sys.modules["timm"] = None  # type: ignore[assignment]
    try:
        import mmseg
        from mmengine.registry import init_default_scope
        from mmseg.models.backbones import timm_backbone
        from mmseg.utils import register_all_modules

        register_all_modules(init_default_scope=False)
        init_default_scope("mmseg")
    finally:
        if without:
            del sys.modules["timm"]
    timm_backbone.timm = _Timm()
    registered: ModuleType = mmseg
    return registered


def _read_weights_safely() -> None:
    """Make MMEngine's loader of local files take tensors and plain values only, whatever torch's default is."""
    import torch
    from mmengine.runner.checkpoint import CheckpointLoader

    def read(filename: str, map_location: Any = None) -> Any:
        try:
            return torch.load(filename, map_location=map_location, weights_only=True)
        except FileNotFoundError:
            raise AdmError(f"checkpoint {filename}: no such file") from None
        except Exception as error:  # torch raises whatever the damage leads to
            reason = str(error).splitlines()[0]
            raise AdmError(f"checkpoint {filename} cannot be read without running code in it: {reason}") from error

    CheckpointLoader.register_scheme(prefixes="", loader=read, force=True)


def _be_quiet() -> None:
    """MMEngine reports every initialised parameter and configuration; workers' logs are for what goes wrong."""
    import logging

    from mmengine.logging import MMLogger

    MMLogger.get_instance("mmseg", log_level=logging.WARNING)
    logging.getLogger("mmengine").setLevel(logging.WARNING)


def _stay_in_one_thread() -> None:
    """OpenCV takes all cores in every process, of which there is one per core, and heeds no variable that says less."""
    import cv2

    cv2.setNumThreads(0)
