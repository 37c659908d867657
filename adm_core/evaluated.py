"""What of a run is evaluated: moving averages, where the recipe keeps some, in the place of what they average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from adm_core.averaging import MovingAverage, tensors_of
from adm_core.distiller import Distiller
from adm_core.taps import Network


class Averages:
    """Moving averages of what a run trains and evaluates.

    They are of its networks and, where the method deploys another module in the student's place, of the parts that
    train: a projector is deployed as the average of itself before which the student's average stands.

    Args:
        distiller: of the run.
        decay: in (0, 1); None: nothing is averaged.
    """

    def __init__(self, distiller: Distiller, decay: float | None) -> None:
        self._distiller = distiller
        trained: dict[str, nn.Module] = {}
        if decay is not None:
            trained = {role: own.module for role, own in distiller.networks.items() if role in distiller.trained}
            if distiller.method.card.deployed != "student":
                trained |= {_key(name): part for name, part in distiller.parts.items() if _trains(part)}
        self._of = {name: MovingAverage(module, decay or 0.0) for name, module in trained.items()}

    def update(self) -> None:
        """Take in all weights as they are now."""
        for average in self._of.values():
            average.update()

    def evaluated(self) -> dict[str, Network]:
        """The networks to evaluate, averages in the place of what they average; what is deployed is the student."""
        networks = {
            role: replace(network, module=self._of[role].module) if role in self._of else network
            for role, network in self._distiller.networks.items()
        }
        networks = self._distiller.deployed(networks)
        parts = self._distiller.parts.items()
        averaged = {id(part): self._of[_key(name)].module for name, part in parts if _key(name) in self._of}
        for module in list(networks["student"].module.modules()):
            for name, inside in module.named_children():
                if id(inside) in averaged:
                    setattr(module, name, averaged[id(inside)])
        return networks

    def tensors(self) -> Iterator[Tensor]:
        """All that is kept."""
        return (tensor for average in self._of.values() for tensor in tensors_of(average))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, by role and ``parts.NAME``."""
        return {name: average.state_dict() for name, average in self._of.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept.

        Raises:
            KeyError: it is of another run.
        """
        for name, average in self._of.items():
            average.load_state_dict(state[name])


def _key(part: str) -> str:
    """By which a part's average is kept beside those of networks."""
    return f"parts.{part}"


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
