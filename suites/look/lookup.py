"""Cells named on the command line by the beginning of their id."""

from __future__ import annotations

from adm_core.errors import AdmError
from results.records.store import Store


def cell_by_prefix(store: Store, prefix: str) -> str:
    """The id of the one cell in a store that begins with ``prefix``.

    Raises:
        AdmError: none does, or several do.
    """
    known = {path.stem for path in (store.root / "records").glob("*.json")}
    known |= {path.name for path in (store.root / "work").glob("*") if path.is_dir()}
    found = sorted(cell for cell in known if cell.startswith(prefix))
    if not found:
        raise AdmError(f"no cell in '{store.root}' begins with '{prefix}'; adm status SUITE --json lists ids")
    if len(found) > 1:
        raise AdmError(f"'{prefix}' is the beginning of {len(found)} cells: {', '.join(found[:5])}; give more digits")
    return found[0]
