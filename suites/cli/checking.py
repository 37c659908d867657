"""What must hold before the cells of a suite are trained, here or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suites.cli.console import say

if TYPE_CHECKING:
    from results.records.store import Store
    from suites.plan.plan import Plan
    from suites.spec.expand import Expansion
    from suites.work.options import RunOptions


def check_needs(plan: Plan, options: RunOptions) -> None:
    """Stop where open cells lack data sets, are given checkpoints that are not to be loaded, or cannot be shared.

    Raises:
        AdmError: as said, with one message rather than a failed cell for each.
    """
    _check_data(plan, options)
    _check_checkpoints(plan, options)
    _check_shares(plan, options.gpus_per_cell)


def check_schema(records: Store, store: str) -> None:
    """Stop at a store of an earlier version: its finished cells would be trained again under their new ids.

    Raises:
        AdmError: as said.
    """
    from adm_core.errors import AdmError

    earlier = len(records.of_earlier_schemas())
    if earlier:
        told = f"{earlier} of its records are of an earlier version, whose cells had other ids"
        raise AdmError(f"store '{store}': {told}; run adm migrate --store {store} first, it takes seconds")


def _check_data(plan: Plan, options: RunOptions) -> None:
    """Stop at a missing data set with one message rather than with a failed cell for each that needs it."""
    from tasks import catalogue, datasets

    cells = [row.planned.cell for row in plan.open]
    for task, name in sorted({(cell.task, cell.benchmark) for cell in cells if cell.own_benchmark is None}):
        benchmark = catalogue.benchmarks(task)[name]
        datasets.require(benchmark.dataset, options.data_roots, options.download, benchmark.classes)


def _check_checkpoints(plan: Plan, options: RunOptions) -> None:
    """Stop at a checkpoint that holds code or no weights with one message; one that is trusted waits for its cell."""
    needed = {row.planned.cell.checkpoint for row in plan.open} - {None, *options.trusted}
    if needed:
        from adm_core.checkpoint import load_foreign  # loads torch, which other suites leave to their workers

        for digest in sorted(filter(None, needed)):
            load_foreign(options.files[digest])


def _check_shares(plan: Plan, processes: int) -> None:
    """Stop at protocols whose steps several processes cannot share."""
    from adm_core.errors import AdmError

    steps = {row.planned.cell.protocol: row.planned.protocol.recipe.accumulate for row in plan.open}
    unlike = [f"{name} ({parts})" for name, parts in sorted(steps.items()) if parts % processes]
    if unlike:
        raise AdmError(
            f"--gpus-per-cell {processes}: GPUs share a step's micro-batches, and recipe.accumulate is no multiple of "
            f"{processes} in {', '.join(unlike)}; train by a protocol that says so (docs/clusters.md), or leave the "
            "option out"
        )


def take_name(given: str, expansion: Expansion, store: Store) -> None:
    """Write the suite's manifest, under which no other suite of its name may stand in the store.

    Raises:
        AdmError: the file goes by the name of one of the benchmark's own suites, or the store holds another suite.
    """
    from adm_core.errors import AdmError
    from results.errors import RecordError
    from results.records.schema import Manifest, ManifestRow
    from suites.spec.expand import expand
    from suites.spec.names import is_path, suite_names

    name, ids = expansion.suite.name, {row.id for row in expansion.rows}
    if is_path(given) and name in suite_names() and {row.id for row in expand(name).rows} != ids:
        raise AdmError(f"{given}: '{name}' is a suite of the benchmark, and this file is another one; rename the file")
    try:
        earlier = store.read_manifest(name)
    except RecordError:  # there is none, or it is damaged
        earlier = None
    rows = [
        ManifestRow(
            cell=row.cell,
            id=row.id,
            label=row.label,
            block=row.block,
            chosen=row.chosen,
            controls=list(row.controls),
        )
        for row in expansion.rows
    ]
    manifest = Manifest(suite=name, title=expansion.suite.title, rows=rows)
    lost = {row.id for row in earlier.rows} - ids if earlier else set()
    if earlier and manifest.is_another(earlier):
        raise AdmError(
            f"{given}: '{store.root}' holds another suite of the name '{name}', titled '{earlier.title}', here it is "
            f"'{expansion.suite.title}'; rename the file or give another --store; if it is the same suite, delete "
            f"{store.manifest_path(name)} (records stay)"
        )
    if lost:
        say(f"no longer in '{name}', which had them before: {len(lost)} of its cells; their records stay", err=True)
    store.write_manifest(manifest)
