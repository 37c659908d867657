"""Where workers run: in this process, or as child processes on slots of this machine."""

from __future__ import annotations

from suites.executors.base import Ending, Executor, Handle, Job
from suites.executors.inline import InlineExecutor
from suites.executors.local import LocalExecutor

__all__ = ["Ending", "Executor", "Handle", "InlineExecutor", "Job", "LocalExecutor"]
