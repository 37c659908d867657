"""When the next checkpoint is due: by time, and less often where one takes long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Pace:
    """Tells when a checkpoint is due.

    Args:
        seconds: least time between two checkpoints; 0: one is always due, whatever the last one took.

    Attributes:
        share: most of the time that checkpoints may take, but for the first one, before which nobody knows.
    """

    def __init__(self, seconds: float) -> None:
        self.share = 0.02
        self._seconds, self._kept_at, self._took = seconds, time.monotonic(), 0.0

    def is_due(self) -> bool:
        """Whether enough time has passed since the last one, or since the beginning."""
        passed = time.monotonic() - self._kept_at
        return not self._seconds or passed >= max(self._seconds, self._took / self.share)

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Around what keeps a checkpoint."""
        began = time.monotonic()
        yield
        self._kept_at = time.monotonic()
        self._took = self._kept_at - began
