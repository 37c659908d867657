"""``adm run`` on a cluster, and ``adm cancel``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from results.table import counted
from suites.cli.arguments import DEFAULT_STORE, StoreFolder, SuiteName
from suites.cli.checking import check_needs, check_schema, take_name
from suites.cli.console import say

if TYPE_CHECKING:
    from pathlib import Path

    from suites.executors.base import Queue
    from suites.plan.plan import Elsewhere, Plan
    from suites.plan.selection import Selection
    from suites.run.submit import Submitted, Terms
    from suites.spec.expand import Expansion
    from suites.work.options import RunOptions


def refuse(options: Mapping[str, object], why: str) -> None:
    """Stop where one of some options was given.

    Raises:
        AdmError: as said.
    """
    from adm_core.errors import AdmError

    for name, value in options.items():
        if value not in (None, False):
            raise AdmError(f"{name}: {why}; leave it out")


def submit(
    given: str,
    expansion: Expansion,
    queue: Queue,
    store: Path,
    options: RunOptions,
    selection: Selection,
    terms: Terms,
    wait: bool,
) -> int:
    """Submit to a cluster what cells a store still lacks, and tell which jobs these are.

    Args:
        given: the suite, as messages name it.
        expansion: its cells.
        queue: of the cluster.
        store: its folder, as messages name it.
        options: of the workers.
        selection: which of the cells are asked for.
        terms: how they are put into jobs.
        wait: whether to stay until all is trained.

    Returns:
        The exit status: 0 all done or submitted, 1 some cells failed, 130 interrupted.

    Raises:
        AdmError: a store of an earlier version, missing data, a checkpoint that is not to be loaded, or the queue
            refuses.
    """
    from results.records.store import Store
    from suites.plan.groups import Room
    from suites.plan.plan import make_plan
    from suites.run.submit import Submitter

    records = Store(options.store)
    check_schema(records, str(store))

    def planning(elsewhere: Mapping[str, Elsewhere]) -> Plan:
        room = Room(terms.group if terms.size > 1 else 1)
        plan = make_plan(expansion, records, 1, selection, room, elsewhere)
        check_needs(plan, options)
        return plan

    take_name(given, expansion, records)
    submitter = Submitter(expansion.suite.name, records, queue, options, terms)
    where = "" if store == DEFAULT_STORE else f" --store {store}"
    submitted = submitter.submit(planning)
    _tell(submitted, expansion.suite.name, where)
    if wait:
        return _attend(lambda: submitter.submit(planning), expansion.suite.name, queue)
    return int(bool(submitted.given_up))


def cancel(suite: SuiteName, store: StoreFolder = DEFAULT_STORE) -> None:
    """Cancel a suite's jobs on a cluster. What runs keeps a checkpoint; 'adm run' submits it again.

    Example: adm cancel quick
    """
    from results.records.store import Store
    from suites.cli.stored import stored_suite
    from suites.run.whereabouts import Lookout

    name = stored_suite(store, suite)
    cancelled = Lookout(Store(store)).cancel(name)
    say(f"{name}: {counted(len(cancelled), 'job')} cancelled" if cancelled else f"{name}: no jobs wait or run")


def _tell(submitted: Submitted, name: str, where: str) -> None:
    states = Counter(row.state for row in submitted.plan.cells)
    under_way = states["running"] + states["queued"]
    if submitted.cells:
        first, last = submitted.jobs[0], submitted.jobs[-1]
        ids = first if first == last else f"{first} to {last}"
        say(
            f"{name}: {counted(len(submitted.cells), 'cell')} submitted in {counted(len(submitted.jobs), 'job')}: {ids}"
        )
    elif under_way:
        say(f"{name}: nothing to submit")
    else:
        say(f"{name}: nothing to do, {counted(states['done'], 'cell')} done")
    if under_way:
        say(f"{name}: {counted(under_way, 'cell')} in earlier jobs")
    _tell_given_up(submitted, name)
    say(f"adm status {name}{where}")


def _attend(again: Callable[[], Submitted], name: str, queue: Queue) -> int:
    """Stay until nothing is under way, submitting again what was lost."""
    from adm_core.errors import AdmError

    told = ""
    try:
        while True:
            time.sleep(queue.patience)
            try:
                submitted = again()
            except AdmError as error:  # a queue may be out of reach for a while
                line, over = f"{error}; trying again", False
            else:
                states = Counter(row.state for row in submitted.plan.cells)
                line = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
                over = not (states["running"] or states["queued"] or submitted.cells)
                _tell_given_up(submitted, name)
            if line != told:
                say(f"{name}: {line}")
                told = line
            if over:
                return int(any(row.open for row in submitted.plan.cells))
    except KeyboardInterrupt:
        say(f"{name}: the jobs go on; adm run {name} --wait stays with them again")
        return 130


def _tell_given_up(submitted: Submitted, name: str) -> None:
    for cell in submitted.given_up:
        say(f"{name}: {cell} was lost too often and is given up; run the suite again to try it once more", err=True)
