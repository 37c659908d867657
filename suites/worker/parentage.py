"""Processes that end with the one that started them, so that a killed runner leaves nothing behind in secret."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Make this process end when ``parent`` does: by the kernel where it can, and by looking twice a second."""
    end_by_kernel_with(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def end_by_kernel_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` ends; Linux only, elsewhere only a parent gone is noticed."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the kernel was told
        os._exit(1)
