"""The taps of networks that tasks list, as far as they are known before a network is built. Loads no torch."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from adm_core.card import ALL_STAGES, HINT, PREACTS
from adm_core.errors import unknown
from tasks.catalogue import networks


def check_taps(task: str, name: str, taps: Iterable[str], where: str) -> None:
    """Stop at a tap that somebody names and a network of the task's own list has not.

    A network without an auxiliary head passes: where such a tap is asked for, its cells are skipped with that reason.

    Raises:
        AdmError: no such tap; the network's nearest are given.
    """
    there = _taps(task, name)
    for tap in taps:
        is_head = tap.startswith("auxiliary") and any(tap in other["taps"] for other in networks(task).values())
        if there is not None and tap not in there and not is_head:
            raise unknown("tap", tap, there, where=f"{where}: network '{name}'")


def why_untapped(task: str, name: str, taps: Iterable[str]) -> str | None:
    """Why a method that reads some taps cannot run on a network of the task's own list; None: it has them.

    Of a library's network it is None too: it tells its taps once it is built.
    """
    there = _taps(task, name)
    lacking = [f"'{tap}'" for tap in taps if there is not None and tap not in there]
    if not lacking:
        return None
    return f"network '{name}' has no tap {', '.join(lacking)}; there are {', '.join(networks(task)[name]['taps'])}"


@functools.cache
def _taps(task: str, name: str) -> tuple[str, ...] | None:
    """The taps of a network of the task's own list, groups of them and the members of these included."""
    known = networks(task).get(name)
    if known is None:
        return None
    there, stages = list(known["taps"]), sum(re.fullmatch(r"stage\d+", tap) is not None for tap in known["taps"])
    there += ["last", HINT] if stages else []
    for group in [ALL_STAGES] * (stages > 0) + [PREACTS] * any(tap.endswith(".preact") for tap in known["taps"]):
        there += [group, *(f"{group}.{number}" for number in range(1, stages + 1))]
    return tuple(there)
