"""Where settings are searched: values of a range, ranges that are none, and settings that are what they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from adm_core import registry
from adm_core.errors import AdmError
from adm_core.settings import Search, make_settings, searched, searches


@dataclass(frozen=True)
class Settings:
    """Two settings, one of which is searched."""

    weight: float = searched(2.0, 0.1, 10.0)
    width: int = 128


def test_equal_shares_of_a_log_range_are_equal_factors() -> None:
    assert [Search(0.1, 10.0).at(share) for share in (0, 0.25, 0.5, 1)] == [0.1, 0.316, 1.0, 10.0]
    assert [Search(0.0, 0.3, "linear").at(share) for share in (0, 0.25, 0.5, 1)] == [0.0, 0.075, 0.15, 0.3]


def test_a_searched_setting_is_one_like_the_others() -> None:
    assert make_settings("mine", Settings, {}) == Settings(2.0, 128)
    assert make_settings("mine", Settings, {"weight": 50.0}).weight == 50.0
    assert searches(Settings) == {"weight": Search(0.1, 10.0)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((1.0, 10.0, 0.1), "the range is empty"),
        ((1.0, 0.0, 2.0), "a log scale begins above 0"),
        ((5.0, 0.1, 2.0), "the default lies outside of the range"),
        ((1.0, 0.1, 2.0, "cubic"), "the scale is 'log' or 'linear'"),
    ],
)
def test_a_range_that_is_none_is_refused(given: tuple[Any, ...], told: str) -> None:
    with pytest.raises(AdmError, match=told):
        searched(*given)


def test_methods_take_both_ends_of_the_ranges_that_they_declare() -> None:
    ours = [name for name in registry.names() if registry.get(name).__module__.startswith("adm_core.methods.")]
    declared = {name: searches(registry.get(name).Settings) for name in ours}
    assert len(declared) > 80
    for name, ranges in declared.items():
        for key, search in ranges.items():
            assert [registry.create(name, {name: {key: end}}).settings for end in (search.low, search.high)]
    weighted = {name for name in declared if {"weight", "temperature"} & registry.get(name).defaults().keys()}
    assert [name for name in sorted(weighted) if not declared[name]] == []
