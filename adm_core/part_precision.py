"""Low precision for the modules that a method runs inside its losses, while the losses themselves are fp32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from adm_core.network_copy import NetworkCopy


class PartPrecision:
    """Runs a method's modules in the precision of the networks, and gives what they make as float32.

    Under autocast a method's losses are computed with autocast off: sums and exponentials need float32. What costs time
    in them is not sums but the convolutions of projectors, critics, generators and copies of networks. Each such module
    enters autocast when it is called and leaves it when it returns, whatever the method, so that no method's file says
    anything of it. A module that is called inside another runs as that one does.
    """

    def __init__(self) -> None:
        self._device = "cpu"
        self._low: torch.dtype | None = None
        self._entered: list[torch.autocast] = []

    def serve(self, parts: Mapping[str, nn.Module]) -> None:
        """Let parts run like this from now on; containers are not called themselves, what they hold is."""
        for part in parts.values():
            if isinstance(part, nn.ModuleDict | nn.ModuleList | NetworkCopy):
                self.serve(part._modules)  # type: ignore[arg-type]
            else:
                part.register_forward_pre_hook(self._enter)
                part.register_forward_hook(self._leave, always_call=True)

    @contextmanager
    def losses_in_fp32(self, device: str) -> Iterator[None]:
        """Turn autocast off inside, but for the parts; they take the precision that is in force outside.

        Args:
            device: type of the device.
        """
        self._device = device
        self._low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        try:
            with torch.autocast(device, enabled=False):
                yield
        finally:
            self._low, self._entered = None, []

    def _enter(self, _part: nn.Module, _inputs: Any) -> None:
        if self._low is not None:
            # Without its cache: a weight that is cast under no_grad would stay without a gradient for the whole step.
            context = torch.autocast(self._device, self._low, cache_enabled=False)
            context.__enter__()
            self._entered.append(context)

    def _leave(self, _part: nn.Module, _inputs: Any, made: Any) -> Any:
        if not self._entered:
            return made
        self._entered.pop().__exit__(None, None, None)
        return made if self._entered else tree_map(_as_float32, made)


def _as_float32(made: Any) -> Any:
    return made.float() if isinstance(made, Tensor) and made.is_floating_point() else made
