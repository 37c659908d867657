"""What frozen networks are worth, judged once: every cell with the same teacher, and every epoch, reads it again."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from adm_core import source
from adm_core.taps import Network
from adm_core.task import TaskContext
from tasks import artefacts


class Judged(NamedTuple):
    """What one network is worth on a split.

    Attributes:
        scores: by metric.
        named: the class that it names for every example, int64 [N].
    """

    scores: dict[str, float | None]
    named: Tensor


class KnownScores:
    """Files of scores in the store's artefacts, one for each frozen network and split.

    A file is named for all that its numbers depend on: the weights, the network, the benchmark with its data and
    their settings, the split, the code, torch and the device.

    Args:
        context: which benchmark, and where artefacts lie.
        data: gives the digest of the data, or None where nothing identifies them; then nothing is kept.
    """

    def __init__(self, context: TaskContext, data: Callable[[], str | None]) -> None:
        self._context, self._data = context, data

    @functools.cached_property
    def _what(self) -> str | None:
        """All that a file is named for but network and split; None where nothing is kept."""
        context, data = self._context, self._data() if self._context.artefacts else None
        if data is None:
            return None
        on_gpu, recipe = context.device.type == "cuda", context.protocol.recipe
        device = torch.cuda.get_device_name(context.device) if on_gpu else torch.backends.cpu.get_cpu_capability()
        told = [context.benchmark, data, context.protocol.data, recipe.precision, recipe.kernels, device]
        return json.dumps([*told, _code(), torch.__version__])

    def judged(self, network: Network, split: str, judge: Callable[[], Judged]) -> Judged:
        """The worth of a network: by ``judge`` where it trains, or nobody has judged it yet.

        Args:
            network: frozen where none of its weights trains.
            split: on which it is judged.
            judge: judges it.

        Raises:
            AdmError: the disk refuses a file.
        """
        folder = self._context.artefacts
        if folder is None or any(w.requires_grad for w in network.module.parameters()) or self._what is None:
            return judge()
        state = network.module.state_dict()
        what = "|".join((self._what, split, network.name, repr(network.module), *state))
        path = folder / "scores" / f"{artefacts.digest(what, state.values())}.safetensors"
        known = artefacts.read(path)
        if known is not None:
            return Judged(json.loads(known[1]), known[0]["named"])
        found = judge()
        artefacts.write(path, {"named": found.named}, json.dumps(found.scores))
        return found


@functools.cache
def _code() -> str:
    """SHA-256 of the code that predicts and judges."""
    folder = Path(__file__).parent
    return source.of_core() + source.of_folders((folder, folder.parent / "datasets"))
