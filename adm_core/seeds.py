"""Independent random streams from one seed, so that no stream's use shifts another's."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the stream named by ``path``; the same for ever for the same arguments."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class StepGenerator(torch.Generator):
    """A method's randomness in a step: a stream of its own for every micro-batch, whoever runs those before it."""

    def begin(self, seed: int, part: int) -> None:
        """Draw for a micro-batch, counted from 0, of the step with a seed."""
        self._step = seed
        self.manual_seed(derive(seed, "draws", part) if part else seed)

    def initial_seed(self) -> int:
        """The seed of the step, by which methods decide what holds for all of its micro-batches."""
        return self._step


def sow(device: torch.device, seed: int, *path: str | int) -> None:
    """Begin torch's global streams, from which dropout and its like draw, anew at :func:`derive` of ``path``.

    Args:
        device: where is drawn; beside the CPU's stream, a GPU's begins anew where it is one.
        seed: as in :func:`derive`.
        path: as in :func:`derive`.
    """
    own = derive(seed, *path)
    torch.default_generator.manual_seed(own)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(own)
