"""The command ``adm`` in this process: what it printed and its exit status."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import adm_bench


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


def adm(*arguments: object) -> Answer:
    """Run a command; anything but a proper exit is raised, as a traceback would be seen by a user."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", ["adm", *map(str, arguments)]),
    ):
        try:
            adm_bench.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def refusal(*arguments: object) -> str:
    """The message of a command that refuses bad input: one error, exit status 2, nothing else printed."""
    answer = adm(*arguments)
    assert (answer.code, answer.out) == (2, ""), answer
    assert answer.err.startswith("error: ") and answer.err.count("error:") == 1
    return answer.err.removeprefix("error: ").rstrip("\n")
