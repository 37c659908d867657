"""A step of a method on a GPU that is not there: what it would make on the wrong device, and what it would wait for.

Torch's ``FakeTensorMode`` computes shapes and devices and no numbers, so the device may be ``cuda`` on any machine. A
:class:`TorchDispatchMode` above it sees every operation, those of the backward pass and of optimisers included.
"""

from __future__ import annotations

import inspect
import linecache
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adm_core.compose import parts_of
from adm_core.distiller import Distiller
from adm_core.errors import AdmError
from adm_core.optimizer import make_optimizers
from adm_core.testing.setup import RECIPE, Setup

GPU = torch.device("cuda:0")
WAITS = frozenset({"_local_scalar_dense", "is_nonzero", "_linalg_check_errors", "_linalg_svd", "_linalg_eigh"})
"""Operations that wait for the device beside those whose tags say that their result depends on values."""
WAYS_OUT = "use where, gather or masked_fill, or declare the capability host-synchronisation"
_PLAIN = torch.device("meta")
_COPIES = frozenset({"_to_copy", "copy_", "_copy_from"})
_INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
_TORCH = str(Path(torch.__file__).parent)


class FakeGenerator(torch.Generator):
    """A generator that says it is on the fake GPU.

    Without a GPU torch makes none there. Fake operations draw no numbers, so that one of the CPU serves them; and a
    tensor that is drawn from it without naming the device appears on the CPU, and is found there.
    """

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The fake GPU."""
        return GPU


class Watch(TorchDispatchMode):
    """Looks at every operation for tensors on the CPU and for what waits for the device.

    Args:
        files: source files of the method; messages name their lines.
        may_wait: whether waiting is declared. What the host would read is then 1 and 0 in turns, and of what it would
            choose by a mask everything is chosen.
    """

    def __init__(self, files: frozenset[str], may_wait: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.files, self.may_wait, self._read = files, may_wait, 0
        self._number: Tensor | None = None  # the last plain number that torch has made a tensor of by itself

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation.

        Raises:
            AdmError: it makes or meets a tensor on the wrong device, or waits for the device undeclared.
        """
        given = dict(kwargs or {})
        # Torch's own C++ code is told "meta": its autograd engine keeps no queue for a GPU that is not there. Python
        # asks the fake tensor, which says "cuda". What C++ then asks to be made beside such a tensor is on the GPU.
        if func is torch.ops.prim.device.default:
            return _PLAIN
        beside = given.get("device") == _PLAIN
        if beside:
            given["device"] = GPU
        name = func.overloadpacket.__name__
        inputs = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor)]
        if name == "_local_scalar_dense" and inputs[0].device.type == "cpu":
            return self._host_number(func, args)
        self._check_devices(name, inputs, given)
        if any(tensor.device == GPU for tensor in inputs) and self._waits(func, name, args):
            if not self.may_wait:
                self._complain(f"{_told(name)} waits for the device", WAYS_OUT)
            if name == "_local_scalar_dense":
                self._read += 1
                return self._read % 2
            if name == "nonzero":
                return torch.zeros(args[0].numel(), args[0].dim(), dtype=torch.int64, device=GPU)
            if name in _INDEXING:
                args = (args[0], _all_chosen(args[1]), *args[2:])
        if name == "_fused_sgd_":
            return None  # it changes weights in place, and torch has no fake of it
        try:
            result = func(*args, **given)
        except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException):
            self._complain(f"{_told(name)} cannot be tried on a fake GPU", WAYS_OUT)
        self._check_devices(name, [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)], given)
        if beside and name == "scalar_tensor":
            self._number = result
        return result

    def _host_number(self, func: Any, args: tuple[Any, ...]) -> Any:
        try:
            return func(*args)
        except DataDependentOutputException:
            return 1

    def _check_devices(self, name: str, tensors: list[Tensor], given: dict[str, Any]) -> None:
        """A scalar of the CPU may take part in arithmetic; anything else of it is a copy, and a wait for it."""
        on_cpu = [tensor for tensor in tensors if tensor.device.type == "cpu"]
        to = given.get("device")
        if (
            name == "_to_copy"
            and not on_cpu
            and to is not None
            and torch.device(to).type == "cpu"
            and not self.may_wait
        ):
            self._complain("copying to the CPU waits for the device", WAYS_OUT)
        if any(tensor.dim() for tensor in on_cpu):
            shape = next(list(tensor.shape) for tensor in on_cpu if tensor.dim())
            self._complain(f"{_told(name)} has a tensor {shape} on the CPU", "make it on the device of the batch")
        if any(tensor.device == _PLAIN for tensor in tensors):
            self._complain(f"{_told(name)} copies a list of numbers to the device", "use slices or narrow")
        copied = name == "_to_copy" and to is not None and torch.device(to) == GPU
        if on_cpu and (copied or (name in _COPIES | _INDEXING and len(on_cpu) < len(tensors))):
            self._complain(f"{_told(name)} copies a number to the device", "use new_full, full_like or plain numbers")

    def _waits(self, func: Any, name: str, args: tuple[Any, ...]) -> bool:
        if name in _INDEXING:
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            return bool(masks) and (name == "index" or args[2] is not self._number)  # a number is filled in
        tags = func.tags
        return name in WAITS or torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags

    def _complain(self, what: str, instead: str) -> None:
        raise AdmError(f"{what} at {self._place()}; {instead}")

    def _place(self) -> str:
        """Where in the project the operation came about, and by which line of the method."""
        frame, places, own = sys._getframe(1), [], ""
        while frame is not None and not own:
            file = frame.f_code.co_filename
            if file != __file__ and not file.startswith((_TORCH, "<")):
                line = frame.f_lineno
                places.append(f"{'/'.join(Path(file).parts[-2:])}:{line} `{linecache.getline(file, line).strip()}`")
                own = places[-1] if file in self.files else ""
            frame = frame.f_back  # type: ignore[assignment]
        if not places:
            return "torch's own code"
        return places[0] if own in ("", places[0]) else f"{places[0]}, called from {own}"


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Inside, every tensor that is made is fake, and ``cuda`` is a device; :class:`Watch` is for what is run there."""
    with warnings.catch_warnings(), FakeTensorMode(allow_fallback_kernels=False, allow_non_fake_inputs=True):
        warnings.filterwarnings("ignore", "User provided device_type of 'cuda'|CUDA is not available", UserWarning)
        yield


def faked(tensor: Tensor) -> Tensor:
    """A fake of a tensor on the fake GPU, inside :func:`fake_tensors`."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=GPU)


def moved(value: Any, move: Callable[[Tensor], Tensor] = faked) -> Any:
    """A tensor, or what holds tensors in dataclasses, tuples, lists and mappings, with every tensor moved."""
    if isinstance(value, Tensor):
        return move(value)
    if isinstance(value, tuple | list):
        return type(value)(moved(item, move) for item in value)
    if isinstance(value, dict):
        return {key: moved(item, move) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: moved(getattr(value, f.name), move) for f in fields(value) if f.init})
    return value


def move_module(module: nn.Module) -> None:
    """Put fakes on the fake GPU in the place of a module's parameters and buffers, shared ones once."""
    known: dict[Tensor, Tensor] = {}
    for child in module.modules():
        for name, buffer in list(child.named_buffers(recurse=False)):
            setattr(child, name, known.setdefault(buffer, moved(buffer)))
        for name, p in list(child.named_parameters(recurse=False)):
            setattr(child, name, known.setdefault(p, nn.Parameter(moved(p), p.requires_grad)))


def move_distiller(distiller: Distiller) -> None:
    """Put a distiller and the networks that it runs on the fake GPU; optimisers are to be made afterwards."""
    move_module(nn.ModuleList([distiller, *(network.module for network in distiller.networks.values())]))
    distiller.trained = distiller.parameter_groups()


def step_on_gpu(setup: Setup, moments: list[float]) -> None:
    """Move a setup to the fake GPU for good, and take a training step at each share of training in ``moments``.

    Raises:
        AdmError: a tensor is made on the wrong device, or the step waits undeclared; names the line.
    """
    sources = (inspect.getsourcefile(type(part)) for part in parts_of(setup.method))
    batches = [setup.batch(seed) for seed in range(len(moments))]
    may_wait = "host-synchronisation" in setup.method.needs.capabilities
    with fake_tensors():
        distiller = setup.distiller
        move_distiller(distiller)
        setup.method.know(moved(dict(setup.method.statistics)))
        setup.optimizers = make_optimizers(distiller, RECIPE)
        given = [(moved(batch), progress, FakeGenerator()) for batch, progress in zip(batches, moments, strict=True)]
        with Watch(frozenset(filter(None, sources)), may_wait):
            for batch, progress, generator in given:
                setup.train(batch, progress, generator)


def _all_chosen(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Indices in which every mask [...] is as if it were true everywhere."""
    chosen: list[Tensor | None] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            chosen.append(index)
        else:
            chosen += [torch.zeros(index.numel(), dtype=torch.int64, device=GPU)] * index.dim()
    return chosen


def _told(name: str) -> str:
    """An operation as people call it."""
    return {"_local_scalar_dense": "reading a number (.item(), bool(), float())", "index": "indexing"}.get(name, name)
