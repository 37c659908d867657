"""What trials came to: the best settings of every row, as the file that a suite names."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from ruamel.yaml import YAML

from results.records.identity import digest_of_values
from results.records.schema import Primary, Record
from results.records.store import Store
from suites.spec.code import code_of
from suites.spec.trials import Candidate, Search, Trials
from suites.spec.tuned import Trial, Tuned, TunedRow, place_of

RULE = "the best mean over the seeds on the validation split; among equals the first, which is the row as stated"
_ENDED = ("ok", "diverged")


def outcome(trials: Trials, store: Store) -> tuple[Tuned | None, list[str]]:
    """The best settings of every row, and a remark for each that has none.

    A trial of which a seed diverged loses; where all did, the row stays as it is stated. Rows that were skipped, as
    their methods cannot run on the pair, are left out with their reason.

    Args:
        trials: of a suite.
        store: where they were trained.

    Returns:
        None as long as any trial of any row is to be trained yet or has failed: what would be chosen from fewer is not
        chosen on equal terms.
    """
    records, _ = store.records([cell.id for cell in trials.expansion.rows])
    rows: list[TunedRow] = []
    remarks: list[str] = []
    whole = True
    for search in trials.searches:
        ended = [records.get(cell.id) for candidate in search.candidates for cell in candidate.cells]
        skipped = next((record.reason for record in ended if record and record.status == "skipped"), None)
        missing = sum(record is None or record.status not in _ENDED for record in ended)
        place = f"{search.row.block}, {search.row.label}"
        if skipped is not None:
            remarks.append(f"{place}: skipped: {skipped}")
        elif missing:
            remarks.append(f"{place}: {missing} of {len(ended)} trainings are missing")
            whole = False
        else:
            rows.append(_row(search, records))
    cells = sorted({row.id for row in trials.suite.rows})
    code = {name: digest for row in trials.suite.rows for name, digest in code_of(row.cell).items()}
    tuned = Tuned(
        suite=trials.suite.suite.name,
        digest=digest_of_values(cells),
        trials=trials.count,
        seeds=trials.seeds,
        rule=RULE,
        code={name: digest for name, digest in sorted(code.items()) if not name.startswith("method ")},
        rows=tuple(rows),
    )
    return tuned if whole else None, remarks


def as_yaml(tuned: Tuned) -> str:
    """The text of the file; the same for the same outcome."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = None, 120
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared as None alone
    text = io.StringIO()
    yaml.dump(tuned.model_dump(mode="json"), text)
    return f"# Made by adm tune {tuned.suite}; a suite names this file as its 'chosen'.\n{text.getvalue()}"


def _row(search: Search, records: Mapping[str, Record]) -> TunedRow:
    tried = [_trial(candidate, records) for candidate in search.candidates]
    scored = (records[cell.id].primary for candidate in search.candidates for cell in candidate.cells)
    primary: Primary | None = next(filter(None, scored), None)
    higher = primary is None or primary.higher_is_better
    cell = search.row.cell
    return TunedRow(
        block=search.row.block,
        **place_of(cell),
        versions={part.name: part.version for part in cell.method},
        pair=f"{cell.teacher} > {cell.student}" if cell.teacher else cell.student,
        row=search.row.label,
        metric=primary.metric if primary else "none",
        higher_is_better=higher,
        chosen=1 + _best([trial.mean for trial in tried], higher),
        trials=tuple(tried),
    )


def _trial(candidate: Candidate, records: Mapping[str, Record]) -> Trial:
    scores = tuple(records[cell.id].score("student") for cell in candidate.cells)
    known = [score for score in scores if score is not None]
    mean = sum(known) / len(known) if len(known) == len(scores) else None
    return Trial(settings=candidate.settings, scores=scores, mean=mean)


def _best(means: Sequence[float | None], higher_is_better: bool) -> int:
    """Position of the best mean, of equal ones the first; 0 where there is none."""
    ranked = [(mean if higher_is_better else -mean, -place) for place, mean in enumerate(means) if mean is not None]
    return -max(ranked)[1] if ranked else 0
