"""The command ``adm`` in this process: what it printed and its exit status."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import adm_bench
from adm_core import registry


@dataclass(frozen=True)
class Answer:
    """What a command left.

    Attributes:
        code: exit status.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output as JSON."""
        return json.loads(self.out)


def adm(*arguments: object, cwd: Path | None = None, encoding: str = "utf-8") -> Answer:
    """Run a command, in a folder and with output in an encoding; anything but a proper exit is raised, as a traceback
    would be seen by a user.

    Methods of files that it loaded are forgotten with it, as they are where the process ends.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, newline="", write_through=True) for _ in range(2))
    code = 0
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", ["adm", *map(str, arguments)]),
    ):
        try:
            adm_bench.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            _forget_method_files()
    return Answer(code, *(stream.buffer.getvalue().decode(encoding) for stream in (out, err)))


def _forget_method_files() -> None:
    for name, method in list(registry._known.items()):
        if method.__module__.startswith("adm_method_"):
            del registry._known[name]
            sys.modules.pop(method.__module__, None)


def refusal(*arguments: object, cwd: Path | None = None) -> str:
    """The message of a command that refuses bad input: one error, exit status 2, nothing else printed."""
    answer = adm(*arguments, cwd=cwd)
    assert (answer.code, answer.out) == (2, ""), answer
    assert answer.err.startswith("error: ") and answer.err.count("error:") == 1
    return answer.err.removeprefix("error: ").rstrip("\n")
