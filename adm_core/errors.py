"""Errors meant for people: one message that says what is wrong, where, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdmError(Exception):
    """Bad input or a broken promise, explained; the command line prints the message without a traceback."""


class Diverged(AdmError):
    """Training produced a value that is not finite; nothing after the last good checkpoint is kept."""


class Stopped(AdmError):
    """Training ended early because it was asked to; a checkpoint is there to go on from."""


class Parted(AdmError):
    """Another process that trains the same cell has ended; what went wrong there is not known here."""


class Unsupported(AdmError):
    """A method cannot run on this pair or task; the message is the reason shown in plans and tables."""


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """``did you mean a, b?`` for the names closest to ``name``, or the list of what there is.

    Args:
        name: what the user wrote.
        known: every valid name.
        most: how many near names to offer.
    """
    names = sorted(known)
    by_lower = {other.lower(): other for other in reversed(names)}
    close = [by_lower[other] for other in difflib.get_close_matches(name.lower(), by_lower, n=most, cutoff=0.5)]
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"there are: {', '.join(names)}" if names else "there are none"


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> AdmError:
    """The error for a name that nothing answers to.

    Args:
        kind: what was asked for, e.g. ``"method"``.
        name: what the user wrote.
        known: every valid name.
        where: file and key in which the name stood, if any.
    """
    place = f"{where}: " if where else ""
    return AdmError(f"{place}unknown {kind} '{name}'; {nearest(name, known)}")
