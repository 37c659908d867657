"""Moving averages of weights."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """An exponential moving average of a network's weights and buffers: ``a ← decay · a + (1 - decay) · w``.

    The first update copies. It gives the very numbers of torch's ``AveragedModel`` with ``use_buffers``, and has its
    state, but lists the tensors once: to walk through the modules of a small denoiser in every step takes four times
    as long as to average them. Tensors must therefore be changed in place, as optimisers and ``load_state_dict`` do.

    Args:
        network: what is trained; all its tensors on one device.
        decay: in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self._average = get_ema_multi_avg_fn(decay)
        self._by_type: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for own, trained in zip(tensors_of(self.module), tensors_of(network), strict=True):
            averages, values = self._by_type.setdefault(own.dtype, ([], []))
            averages.append(own)
            values.append(trained)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's weights as they are now."""
        for averages, values in self._by_type.values():
            if self.n_averaged == 0:
                torch._foreach_copy_(averages, values)
            else:
                self._average(averages, values, self.n_averaged)
        self.n_averaged += 1


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Weights and buffers of a module, each once, however many names it has."""
    return [tensor.detach() for tensor in itertools.chain(module.parameters(), module.buffers())]
