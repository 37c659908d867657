"""Where each method runs: the tables at the head of ``methods.md``, from what the code itself answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from adm_core import registry
from adm_core.errors import Unsupported
from adm_core.method import Method
from adm_core.taps import Network, probe
from adm_core.task import Offered
from adm_core.testing.checks import setup_that_suits
from adm_core.testing.networks import Form
from adm_core.testing.setup import Setup
from suites.spec.definition import load_protocol
from suites.spec.names import protocol_names
from tasks import catalogue, listed_taps

TASKS: dict[str, Form] = {
    **{"classification": "images", "segmentation": "pixels", "diffusion": "denoisers"},
    "language": "pixels",
}
"""Each task and the form of tiny networks that stands for it."""
ROWS = ("language",)
"""The tasks whose maps are one row high."""
COSTS = Path(__file__).with_name("step-costs.json")
"""Written by ``tests/benchmarks/test_step_costs.py``."""


@dataclass(frozen=True)
class Row:
    """A method's row.

    Attributes:
        name: of the method.
        where: a cell per task: regimes in which it runs, and numbers of the notes that tell why not in others.
        cost: of a step of classification, relative to ``none`` and the teacher's forward pass; empty if not measured.
        needs: capabilities.
        deployed: what is scored and saved; empty for the plain student.
    """

    name: str
    where: tuple[str, ...]
    cost: str
    needs: tuple[str, ...]
    deployed: str


@dataclass(frozen=True)
class Family:
    """A family's table and the notes below it."""

    name: str
    rows: list[Row]
    notes: list[str]


def families(names: Iterable[str]) -> list[Family]:
    """The tables of some methods, by family in alphabetical order."""
    methods = [registry.get(name) for name in names]
    return [
        _family(family, [method for method in methods if method.card.family == family])
        for family in sorted({method.card.family for method in methods})
    ]


def costs() -> dict[str, Any]:
    """``of``, method to relative cost of a step, and ``where``, what it was measured on; empty where it never was."""
    if not COSTS.is_file():
        return {"of": {}, "where": ""}
    measured: dict[str, Any] = json.loads(COSTS.read_text(encoding="utf-8"))
    return measured


def refusal(name: str, regime: str, task: str) -> str | None:
    """Why a method with its defaults does not run on a task in a regime, in the code's words; None where it does.

    Raises:
        RuntimeError: it neither runs on the tiny networks nor declines them.
    """
    setup = _setup(name, regime, TASKS[task])
    if isinstance(setup, str):
        raise RuntimeError(f"'{name}' on {task}, {regime}: {setup}; see adm check --method {name}")
    told = _refused_by(task, regime, setup) if isinstance(setup, Setup) else str(setup)
    return told and told.replace(f"'{name}' reads ", "the method reads ")


@cache
def _setup(name: str, regime: str, form: Form) -> Setup | Unsupported | str:
    return setup_that_suits(name, regime, {}, form)


def _refused_by(task: str, regime: str, setup: Setup) -> str | None:
    """Why a task's batches, taps or maps do not do for a method that the tiny networks suit."""
    method, networks = setup.method, catalogue.networks(task)
    batches = _refused_batches(task, method)
    if batches:
        return batches
    if all(listed_taps.why_untapped(task, name, method.needs.taps) for name in networks):
        return f"no network of {task} has the taps {', '.join(method.needs.taps)}"
    if task not in ROWS:
        return None
    shapes = {role: _as_rows(setup, network) for role, network in setup.distiller.networks.items()}
    return method.supports(shapes["student"], shapes.get("teacher", shapes["student"]), regime)


def _as_rows(setup: Setup, network: Network) -> dict[str, tuple[int, ...]]:
    """Shapes of a tiny network's taps and prediction, their maps one row high."""
    shapes = probe(network, setup.distiller.showing.taps, (setup.batch(0).student_input[:2],))
    return {tap: (*s[:2], 1, s[2] * s[3]) if len(s) == 4 else s for tap, s in shapes.items()}


def _refused_batches(task: str, method: Method) -> str | None:
    """Why no protocol that comes along shows the method what it needs, as the first one tells it."""
    reasons = [offered.why_not(method.needs, task) for offered in _offered(task)]
    return None if None in reasons else reasons[0]


@cache
def _offered(task: str) -> list[Offered]:
    protocols = (load_protocol(name)[1] for name in protocol_names())
    read = (catalogue.check_data(task, own.data, own.title) for own in protocols if own.task == task)
    return [catalogue.offered(task, settings, None) for settings in read]


def _family(name: str, methods: list[type[Method]]) -> Family:
    notes: list[str] = []
    rows = [_row(method, notes) for method in methods]
    return Family(name, rows, notes)


def _row(method: type[Method], notes: list[str]) -> Row:
    """A row; reasons that are new are added to the notes."""
    card, instance = method.card, method()
    needs = frozenset().union(*(instance.capabilities(regime) for regime in card.regimes)) - {"deploys-another"}
    cost = costs()["of"].get(card.name)
    return Row(
        card.name,
        tuple(_cell(method, task, notes) for task in TASKS),
        "" if cost is None else f"{cost:.2f}",
        tuple(sorted(needs)),
        "" if card.deployed == "student" else card.deployed,
    )


def _cell(method: type[Method], task: str, notes: list[str]) -> str:
    told = {regime: refusal(method.card.name, regime, task) for regime in sorted(method.card.regimes)}
    reasons = list(dict.fromkeys(reason for reason in told.values() if reason))
    notes += [reason for reason in reasons if reason not in notes]
    marks = ", ".join(regime for regime, reason in told.items() if not reason)
    declined = f"–<sup>{', '.join(str(notes.index(reason) + 1) for reason in reasons)}</sup>" if reasons else ""
    return " ".join(filter(None, (marks, declined)))
