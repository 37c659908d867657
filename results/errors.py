"""The one error of this package."""

from __future__ import annotations


class RecordError(Exception):
    """A record, manifest or claims file cannot be read or written; the message says which, why, and what to do.

    Attributes:
        cell_id: the cell whose record it is about, where it is about one.
    """

    def __init__(self, message: str, cell_id: str | None = None) -> None:
        super().__init__(message)
        self.cell_id = cell_id
