"""A worker that is asked to end: SIGTERM lets it finish the step it is in and keep a checkpoint."""

from __future__ import annotations

import os
import signal
import threading

asked = threading.Event()
"""Set once this process has been asked to end."""


def heed_requests() -> None:
    """From now on SIGTERM asks this process, and still ends those that it forks; whoever cannot wait kills."""
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
