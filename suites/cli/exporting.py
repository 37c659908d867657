"""``adm export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suites.cli.arguments import DEFAULT_STORE, StoreFolder
from suites.cli.console import say
from suites.cli.stored import reading, stored_suite

if TYPE_CHECKING:
    from results.export import Stored


class Form(StrEnum):
    """In which form data frames are written."""

    parquet = "parquet"
    csv = "csv"
    json = "json"


class Frame(StrEnum):
    """Which data frame."""

    scores = "scores"
    cost = "cost"
    curves = "curves"


def export(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SUITE|STORE...",
            help="Suites that were run, by name, or folders of records, of which every record is written.",
        ),
    ],
    store: StoreFolder = DEFAULT_STORE,
    to: Annotated[
        Form | None, typer.Option("--to", help="parquet unless --out's suffix says otherwise.", show_default=False)
    ] = None,
    only: Annotated[
        Frame | None, typer.Option("--only", help="One data frame; all three where --out is a folder, else scores.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="A folder, or a file for one data frame.")] = Path("export"),
) -> None:
    """Write records as data frames for pandas: scores, cost and curves, each a file of its own.

    Scores have a row per cell, network and metric; cost a row per cell; curves a row per cell, curve and epoch. Several
    suites or stores share the files; the columns 'store' and 'suite' say which a row is of. Cells that failed, were
    skipped or were not run are there with their status.

    Example: adm export quick --to parquet, then in Python: pandas.read_parquet("export/scores.parquet")
    """
    files = _files(out, to, only)
    sources = _sources(names, store)
    from results.export import FORMS, gather
    from results.records.store import write_atomically

    for path, frame in files.items():
        with reading():
            content = FORMS[path.suffix[1:].lower()](gather(frame, sources))
        write_atomically(path, content)
        say(path)


def _files(out: Path, to: Form | None, only: Frame | None) -> dict[Path, str]:
    """File to the data frame that it holds.

    Raises:
        AdmError: the file's suffix names no form, or another than ``--to``.
    """
    from adm_core.errors import AdmError

    suffix = out.suffix[1:].lower()
    if out.is_dir() or not suffix:
        form = to or Form.parquet
        return {out / f"{frame}.{form}": frame.value for frame in ([only] if only else Frame)}
    if suffix not in list(Form):
        raise AdmError(f"--out {out}: a file's name ends in .{', .'.join(Form)}; a folder's has no suffix")
    if to is not None and to.value != suffix:
        raise AdmError(f"--out {out} and --to {to} contradict each other; leave out --to")
    return {out: (only or Frame.scores).value}


def _sources(names: list[str], store: Path) -> list[Stored]:
    """What is meant by each name.

    Raises:
        AdmError: neither a suite in the store nor a folder of records, both, or a name given twice.
    """
    from adm_core.errors import AdmError
    from results.export import Stored
    from results.records.store import Store
    from suites.spec.names import is_path

    found = []
    for name in names:
        folder = Path(name)
        is_store = (folder / "records").is_dir()
        if is_store and not is_path(name) and Store(store).manifest_path(name).is_file():
            raise AdmError(f"'{name}' is a folder of records here and a suite in '{store}'; the folder is './{name}'")
        if not is_store and is_path(name) and folder.suffix not in (".yaml", ".yml"):
            raise AdmError(f"'{name}' is no folder of records: it has no folder 'records'; give a store or a suite")
        found.append(Stored(folder) if is_store else Stored(store, stored_suite(store, name)))
        if found[-1] in found[:-1]:
            raise AdmError(f"'{name}' is given twice: its rows would count twice")
    return found
