"""Independent random streams from one seed, so that no stream's use shifts another's."""

from __future__ import annotations

import hashlib


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the stream named by ``path``; the same for ever for the same arguments."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
