"""The insight tables in plain words, made from the same estimates: where an observation holds and where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from results.analysis.insight import Estimate, Verdict, verdict
from results.table import Column, Entry, entry_text, listed, signed

Estimates = Mapping[str, Mapping[str, Estimate]]
"""Row's label to column's key to estimate."""
Sentence = Callable[[Estimates], str]


class _Phrases(NamedTuple):
    """What is said of the rows with each verdict; ``{}`` stands for their names."""

    holds: str
    reversed: str
    open: str


HARDLY = 0.1
"""Spread of weights below which they are said to hardly select."""

UNDECIDED = (
    "Told apart: every measure named has its whole interval, and every single seed its mean, on one side of chance "
    "or of zero. Not decided: anything else."
)


def agreement(found: Estimates) -> str:
    """Insight 1, judged by AUC, by top IoU over chance and by top over bottom IoU."""
    tests = {"auc": 0.5, "over_chance": 0.0, "over_bottom": 0.0}
    phrases = _Phrases(
        "holds for {}",
        "does not hold for {}: they agree off the object",
        "is not decided for {}",
    )
    claim = _grouped("Insight 1 (student and teacher agree on the object)", found, tests, phrases, "auc", "AUC ")
    return " ".join(said for said in (claim, _beyond_place(found, tests, "Agreement"), _selection(found)) if said)


def emphasis(found: Estimates) -> str:
    """Insight 2, judged by the activations' IoU at the object's area and above the mean."""
    phrases = _Phrases(
        "holds for {}",
        "does not hold for {}: the student emphasises it more",
        "is not decided for {}",
    )
    subject = "Insight 2 (the teacher emphasises the object more than the student)"
    return _grouped(subject, found, {"gap_area": 0.0, "gap_mean": 0.0}, phrases, "gap_area", "", " IoU %")


def difference(found: Estimates) -> str:
    """Insight 3, judged as insight 1 is."""
    tests = {"auc": 0.5, "over_chance": 0.0, "over_bottom": 0.0}
    phrases = _Phrases(
        "holds for {}",
        "does not hold for {}: they differ most off the object",
        "is not decided for {}",
    )
    claim = _grouped("Insight 3 (activations differ most on the object)", found, tests, phrases, "auc", "AUC ")
    return f"{claim} {_beyond_place(found, tests, 'The difference')}".rstrip()


def change(found: Estimates, frozen: bool) -> list[str]:
    """What ADM changes: a sentence on the student, on the teacher unless it is frozen, and on agreement."""
    sentences = []
    for role in ("student",) if frozen else ("student", "teacher"):
        tests = {f"{role}_area": 0.0, f"{role}_mean": 0.0}
        phrases = _Phrases(
            "moves onto the object in {}",
            "moves off the object in {}",
            "has not decidedly moved in {}",
        )
        subject = f"With ADM the {role}'s activation"
        sentences.append(_grouped(subject, found, tests, phrases, f"{role}_area", "", " IoU %", with_seeds=True))
    phrases = _Phrases(
        "lies more on the object in {}",
        "lies less on the object in {}",
        "has not decidedly moved in {}",
    )
    tests = {"auc": 0.0, "top": 0.0}
    sentences.append(_grouped("With ADM agreement", found, tests, phrases, "auc", "AUC ", with_seeds=True))
    return sentences


def _grouped(
    subject: str,
    found: Estimates,
    tests: Mapping[str, float],
    phrases: _Phrases,
    key: str,
    before: str = "",
    after: str = "",
    with_seeds: bool = False,
) -> str:
    """The subject with one phrase for each verdict that occurs, naming its rows and the number of one column."""
    kind: Literal["change", "estimate"] = "change" if tests[key] == 0 else "estimate"
    column = Column(key, key, kind, 3 if key == "auc" else 1)
    rows: dict[Verdict, list[str]] = {"holds": [], "reversed": [], "open": []}
    for label, estimates in found.items():
        shown = estimates[key]
        number = entry_text(column, Entry((shown.mean, shown.low, shown.high)))
        apart = _seeds(shown, column.digits) if with_seeds else ""
        rows[_verdict(estimates, tests)].append(f"{label} ({before}{number}{after}{apart})")
    said = zip(phrases, (rows["holds"], rows["reversed"], rows["open"]), strict=True)
    return f"{subject} " + "; ".join(phrase.format(listed(named)) for phrase, named in said if named) + "."


def _beyond_place(found: Estimates, tests: Mapping[str, float], subject: str) -> str:
    """Of the rows that hold: whether the map follows the image's own object or only where objects usually lie."""
    holding = {label: e for label, e in found.items() if _verdict(e, tests) == "holds"}
    if not holding:
        return ""
    phrases = _Phrases(
        "follows the image's own object in {}",
        "fits the objects of other images better in {}",
        "is not decidedly more than the usual place of objects in {}",
    )
    return _grouped(subject, holding, {"over_others": 0.0}, phrases, "over_others", "", " IoU % over others'")


def _selection(found: Estimates) -> str:
    """Names the rows in which ADM's weights are nearly uniform without being made so."""
    spreads = {label: estimates["weight_spread"].mean for label, estimates in found.items()}
    rows = [f"{label} ({spread:.2f})" for label, spread in spreads.items() if 0 < spread < HARDLY]
    return f"S hardly selects in {listed(rows)}: ADM's weights spread by less than {HARDLY} there." if rows else ""


def _seeds(estimate: Estimate, digits: int) -> str:
    """How far apart the seeds are, for several."""
    low, high = (signed(end, digits) for end in (min(estimate.seeds), max(estimate.seeds)))
    return f"; seeds {low} to {high}" if len(estimate.seeds) > 1 else ""


def _verdict(estimates: Mapping[str, Estimate], tests: Mapping[str, float]) -> Verdict:
    return verdict([(estimates[key], null) for key, null in tests.items()])
