"""What cells took, as records tell it, and what cells like them will take."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable

from results.records.identity import canonical_json
from results.records.schema import Cell, Record

_Key = tuple[str | None, ...]


class Costs:
    """What cells took in a store, as an estimate for cells like them: same benchmark, protocol, pair and regime."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._seconds: dict[_Key, list[float]] = defaultdict(list)
        self._peaks: dict[_Key, list[float]] = defaultdict(list)
        for record in records:
            for key in _keys(record.cell) if record.status == "ok" else ():
                if seconds := _seconds(record):
                    self._seconds[key].append(seconds)
                if record.cost.peak_memory_mb:
                    self._peaks[key].append(record.cost.peak_memory_mb)

    def estimate(self, cell: Cell) -> float | None:
        """Median seconds of finished cells with the same method, or else with any method; None: there are none."""
        found = next((self._seconds[key] for key in _keys(cell) if key in self._seconds), None)
        return statistics.median(found) if found else None

    def peak(self, cell: Cell) -> float | None:
        """MiB that a cell takes alone; None: unknown.

        The least that a finished cell with the same method took, for others may have been trained beside it; or else
        the most with any method.
        """
        own, setting = _keys(cell)
        return min(self._peaks[own]) if own in self._peaks else max(self._peaks.get(setting, ()), default=None)


def _keys(cell: Cell) -> list[_Key]:
    own = canonical_json({name: network.model_dump(mode="json") for name, network in cell.networks.items()})
    setting = (cell.benchmark, cell.protocol_digest, cell.teacher, cell.student, cell.regime, own)
    stretch = cell.stretch.model_dump_json() if cell.stretch else ""
    return [(*setting, cell.method_name, stretch), setting]


def _seconds(record: Record) -> float:
    phases = (record.cost.setup_s, record.cost.train_s, record.cost.eval_s)
    return sum(phase for phase in phases if phase is not None)
