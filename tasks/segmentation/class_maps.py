"""Class maps of a whole split in one tensor of bytes: deflated as they come, and inflated as they are needed.

A map is mostly areas of one class: CamVid's labels at 720x960 take a fortieth of their pixels. At that rate the maps of
Cityscapes' 500 validation images of 1024x2048, 1 GB as they are, take 26 MB; of those, one batch at a time is inflated.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from adm_core.errors import AdmError

_FASTEST = 1


class MapWriter:
    """Deflates class maps one batch after the other."""

    def __init__(self) -> None:
        self._deflater, self._parts = zlib.compressobj(_FASTEST), list[bytes]()

    def add(self, maps: Tensor) -> None:
        """Take in classes in 0..255, of any integer type, [B, H, W]."""
        self._parts.append(self._deflater.compress(maps.to(torch.uint8).cpu().numpy().tobytes()))

    def packed(self) -> Tensor:
        """All that was added, uint8 [M]; the last use of the writer."""
        content = b"".join([*self._parts, self._deflater.flush()])
        return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())


class MapReader:
    """Inflates class maps in the order in which they were added.

    Args:
        packed: what a :class:`MapWriter` made.
    """

    def __init__(self, packed: Tensor) -> None:
        self._inflater, self._rest = zlib.decompressobj(), packed.numpy().tobytes()

    def next(self, shape: torch.Size) -> Tensor:
        """The next maps, uint8 [B, H, W] of the shape given.

        Raises:
            AdmError: there are no more of them.
        """
        wanted, content = shape.numel(), bytearray()
        while len(content) < wanted:
            if self._inflater.eof:
                raise AdmError("class maps end before the split does; delete the folder artefacts/scores of the store")
            content += self._inflater.decompress(self._rest, wanted - len(content))
            self._rest = self._inflater.unconsumed_tail
        return torch.frombuffer(content, dtype=torch.uint8).view(shape)
