"""The network whose weights are the means of several networks' weights, which goes on training them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class MeanNetwork(nn.Module):
    """Runs as one network of the weights ``(θ_1 + ... + θ_K) / K``; gradients flow into all K networks.

    It has no weights of its own and keeps nothing but a count. Buffers are averaged as well; what a forward pass makes
    of them, such as running statistics, is left behind.

    Args:
        networks: of one architecture.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self._networks, self.steps = tuple(networks), 0  # a tuple, so that they do not become parts of this module

    @property
    def module(self) -> nn.Module:
        """The first network, in the place of whose weights the means stand during a forward pass."""
        return self._networks[0]

    def get_extra_state(self) -> dict[str, Any]:
        """How many steps it has seen."""
        return {"steps": self.steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint has."""
        self.steps = int(state["steps"])

    def forward(self, *inputs: Tensor) -> Tensor:
        """The prediction."""
        prediction: Tensor = functional_call(self.module, self._means(), inputs)
        return prediction

    def _means(self) -> dict[str, Tensor]:
        """Weights and buffers by their name."""
        weights = _mean_of([dict(network.named_parameters()) for network in self._networks])
        with torch.no_grad():  # a list of which one requires gradients would give all of them
            return weights | _mean_of([dict(network.named_buffers()) for network in self._networks])

    @torch.no_grad()
    def start_alike(self) -> None:
        """Give all networks the first one's weights and buffers."""
        for network in self._networks[1:]:
            network.load_state_dict(self.module.state_dict())

    @torch.no_grad()
    def gather(self, share: float, every: int) -> None:
        """Count a step, and after each ``every``-th of them move all networks towards their mean.

        Args:
            share: in [0, 1], of the way; 1 makes them all the mean.
            every: steps from one time to the next.
        """
        self.steps += 1
        if self.steps % every:
            return
        means = self._means()
        for network in self._networks:
            own = dict(network.named_parameters()) | dict(network.named_buffers())
            moved = {name: tensor for name, tensor in own.items() if tensor.is_floating_point()}
            torch._foreach_lerp_(list(moved.values()), [means[name] for name in moved], share)


def _mean_of(each: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Of tensors of the same names; of a count, such as that of batches, a copy of the first."""
    first, means = each[0], dict[str, Tensor]()
    names = [name for name, tensor in first.items() if tensor.is_floating_point()]
    if names:
        total = [first[name] for name in names]
        for own in each[1:]:
            total = list(torch._foreach_add(total, [own[name] for name in names]))
        means = dict(zip(names, torch._foreach_div(total, float(len(each))), strict=True))
    return {name: means[name] if name in means else tensor.clone() for name, tensor in first.items()}
