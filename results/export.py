"""Data frames of several suites and stores as files that others read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from results.frame import FRAMES
from results.render.csv import escape


@dataclass(frozen=True)
class Stored:
    """What is exported.

    Attributes:
        store: the folder.
        suite: name of a suite in it; None: every record that lies there.
    """

    store: Path
    suite: str | None = None


def gather(name: str, sources: Sequence[Stored]) -> pd.DataFrame:
    """One data frame of several sources.

    Args:
        name: which: scores, cost or curves.
        sources: at least one.

    Returns:
        The rows of one source after the other; a first column ``store`` (text) holds each row's store as it was given.

    Raises:
        RecordError: a store has no records, or not the suite.
    """
    frames = []
    for source in sources:
        frame = FRAMES[name](source.store, source.suite)
        frame.insert(0, "store", pd.Series(str(source.store), frame.index, dtype="str"))
        frames.append(frame)
    texts = [column for column, kind in frames[0].dtypes.items() if kind == "category"]
    plain = [frame.astype(dict.fromkeys(texts, "str")) for frame in frames]  # categories differ from source to source
    kinds = dict.fromkeys(["store", *texts] if texts else [], "category")
    return pd.concat(plain, ignore_index=True).astype(kinds)


def _parquet(frame: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()


def _csv(frame: pd.DataFrame) -> bytes:
    """Numbers in full; a text that a spreadsheet would run as a formula gets an apostrophe, as in tables."""
    texts = frame.select_dtypes(["str", "category"]).columns
    safe = frame.assign(**{column: frame[column].map(escape, na_action="ignore") for column in texts})
    return safe.to_csv(index=False, lineterminator="\n").encode()


def _json(frame: pd.DataFrame) -> bytes:
    """A list of objects, one to a line; null for what is not known."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


FORMS: Mapping[str, Callable[[pd.DataFrame], bytes]] = {"parquet": _parquet, "csv": _csv, "json": _json}
"""File suffix to what makes the file's content."""
