"""Which weights of a network matter least to its loss, and the layers in which most of these lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adm_core.memory import Counter


def layers_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of a network's layers by name: tensors of two dimensions or more, no biases or normalisations."""
    return {name: p for name, p in network.named_parameters() if p.dim() > 1}


class Salience(Counter):
    """Sums of ``|θ · dL/dθ|`` of every weight, the layers chosen by them, and a count of steps.

    A weight is *salient* where its sum is above the mean of all; a layer's *rate* is its share of such weights.

    Args:
        layers: the weights, a tensor for each layer.
    """

    chosen: Tensor

    def __init__(self, layers: Sequence[Tensor]) -> None:
        super().__init__()
        for number, weights in enumerate(layers):
            self.register_buffer(f"sum{number}", torch.zeros_like(weights, requires_grad=False))
        self.register_buffer("chosen", torch.zeros(len(layers), dtype=torch.bool))

    @property
    def sums(self) -> list[Tensor]:
        """Those of each layer."""
        return [self.get_buffer(f"sum{number}") for number in range(len(self.chosen))]

    def add(self, layers: Sequence[Tensor], gradients: Sequence[Tensor], anew: bool) -> None:
        """Take in the gradients of a batch, ``anew`` those alone."""
        for total, weights, gradient in zip(self.sums, layers, gradients, strict=True):
            total.mul_(not anew).add_((weights * gradient).abs())

    def choose(self, share: float, at_random: bool) -> None:
        """Choose a share of the layers: those of the lowest rates, or any by torch's global generator.

        Layers without any gradient come last: they do not run.
        """
        rates = torch.stack([salient.to(torch.float32).mean() for salient in self._salient()])
        idle = torch.stack([total.amax() == 0 for total in self.sums])
        order = (torch.rand_like(rates) if at_random else rates) + 2 * idle
        self.chosen.copy_(order.argsort(stable=True).argsort() < max(round(share * len(rates)), 1))

    def movable(self) -> list[Tensor]:
        """Which weights of each layer are not salient and in a chosen layer, bool."""
        return [~salient & chosen for salient, chosen in zip(self._salient(), self.chosen, strict=True)]

    def move(self, layers: Sequence[Tensor], gradients: Sequence[Tensor], rate: float) -> None:
        """Move what is :meth:`movable` down its gradient, in place."""
        for weights, gradient, moves in zip(layers, gradients, self.movable(), strict=True):
            weights.sub_(rate * gradient * moves)

    def _salient(self) -> list[Tensor]:
        mean = sum(total.sum() for total in self.sums) / sum(total.numel() for total in self.sums)
        return [total > mean for total in self.sums]
