"""What frozen networks are worth, judged once: every cell with the same teacher, and every epoch, reads it again."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adm_core import source
from adm_core.taps import Network
from adm_core.task import TaskContext
from tasks import artefacts, catalogue


class Judged(NamedTuple):
    """What one network is worth on a split.

    Attributes:
        scores: by metric.
        named: the class that it names for every example or pixel, in the task's own form.
    """

    scores: dict[str, float | None]
    named: Tensor


class KnownScores:
    """Files of scores in the store's artefacts, one for each frozen network and split.

    A file is named for all that its numbers depend on: the weights, the network, the benchmark with its data and
    their settings, the split, the code, torch and the libraries whose layers the network has, and the device.

    Args:
        context: which benchmark, and where artefacts lie.
        data: gives the digest of the data.
    """

    def __init__(self, context: TaskContext, data: Callable[[], str]) -> None:
        self._context, self._data = context, data

    @functools.cached_property
    def _what(self) -> str:
        """All that a file is named for but network and split."""
        context = self._context
        told = [context.benchmark, self._data(), context.protocol.data, *computed_by(context)]
        return json.dumps([*told, str(context.condition)] if context.condition else told)

    def find(self, network: Network, split: str) -> Judged | None:
        """The worth of a network; None where it trains, or nobody has kept it yet.

        Args:
            network: frozen where none of its weights trains.
            split: on which it is judged.
        """
        known = artefacts.read(self._file(network, split)) if self.keeps(network) else None
        return Judged(json.loads(known[1]), known[0]["named"]) if known else None

    def keep(self, network: Network, split: str, found: Judged) -> None:
        """Keep what :meth:`find` then gives, of a network that does not train.

        Raises:
            AdmError: the disk refuses.
        """
        if self.keeps(network):
            artefacts.write(self._file(network, split), {"named": found.named}, json.dumps(found.scores))

    def keeps(self, network: Network) -> bool:
        """Whether the worth of a network is kept: there is a store, and the network does not train."""
        trains = any(weight.requires_grad for weight in network.module.parameters())
        return self._context.artefacts is not None and not trains

    def _file(self, network: Network, split: str) -> Path:
        folder = self._context.artefacts
        assert folder is not None
        state = network.module.state_dict()
        what = "|".join((self._what, split, network.name, repr(network.module), *libraries(network.module), *state))
        return folder / "scores" / f"{artefacts.digest(what, state.values())}.safetensors"


def computed_by(context: TaskContext) -> list[str]:
    """What numbers depend on beside weights, data and settings: the arithmetic, the device, the code and torch."""
    on_gpu, recipe = context.device.type == "cuda", context.protocol.recipe
    device = torch.cuda.get_device_name(context.device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    return [recipe.precision, recipe.kernels, device, _code(context.protocol.task), torch.__version__]


def libraries(module: nn.Module) -> list[str]:
    """Versions of the packages that a network's layers are of."""
    packages = {type(layer).__module__.partition(".")[0] for layer in module.modules()}
    return sorted(f"{package} {getattr(sys.modules.get(package), '__version__', '')}" for package in packages)


@functools.cache
def _code(task: str) -> str:
    """SHA-256 of the code that predicts and judges."""
    return source.of_core() + source.of_folders(catalogue.code_folders(task))
