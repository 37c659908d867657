"""A worker that is asked to end: SIGTERM lets it finish the step it is in and keep a checkpoint."""

from __future__ import annotations

import signal
import threading

asked = threading.Event()
"""Set once this process has been asked to end."""


def heed_requests() -> None:
    """From now on SIGTERM asks; whoever cannot wait kills."""
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
