"""Where settings are searched: values of a range, ranges that are none, and settings that are what they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from adm_core import registry
from adm_core.errors import AdmError
from adm_core.settings import Search, make_settings, searched, searches
from adm_core.testing.setup import Setup
from tests.built_in import BUILT_IN


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
    declared = {name: searches(registry.get(name).Settings) for name in BUILT_IN}
    assert len(declared) > 80
    for name, ranges in declared.items():
        for key, search in ranges.items():
            assert [registry.create(name, {name: {key: end}}).settings for end in (search.low, search.high)]
    weighted = {name for name in declared if {"weight", "temperature"} & registry.get(name).defaults().keys()}
    assert [name for name in sorted(weighted) if not declared[name]] == []


def weights(name: str, regime: Any, settings: dict[str, Any]) -> list[Tensor]:
    """Those of all networks after a step in each phase of training."""
    setup = Setup(name, regime, {name: settings}, (8, 8))
    setup.make_teacher_sure()
    for seed, progress in enumerate(setup.moments()):
        torch.manual_seed(0)
        setup.step(seed, progress)
    return [value.clone() for network in setup.distiller.networks.values() for value in network.module.parameters()]


@pytest.mark.parametrize(
    ("name", "key", "idle", "active"),
    [
        ("adm", "divergence", ("offline", {}), ("online", {})),
        ("clda", "confidence", ("offline", {}), None),  # it acts on pictures without labels
        ("deepkd", "task_delta", ("offline", {"form": "as-released"}), None),  # of the second step on
        ("diffkd", "temperature", ("offline", {"logit_weight": 0.0}), ("offline", {})),
        ("embeddistill", "temperature", ("offline", {"score_weight": 0.0}), ("offline", {})),
        ("kdpp", "temperature", ("offline", {"kd_weight": 0.0}), ("offline", {})),
        ("mcl", "temperature", ("online", {"soft_vcl": 0.0, "soft_icl": 0.0}), ("online", {})),
        ("online-module", "back_weight", ("offline", {"frozen": True}), None),  # of the second step on
        ("rld", "alpha", ("offline", {"correction": "rc"}), ("offline", {})),
        ("rld", "beta", ("offline", {"correction": "swap"}), ("offline", {})),
        ("rld", "temperature", ("offline", {"correction": "lr"}), ("offline", {"correction": "swap"})),
    ],
)
def test_where_a_setting_does_not_act_other_values_change_nothing(
    name: str, key: str, idle: tuple[str, dict[str, Any]], active: tuple[str, dict[str, Any]] | None
) -> None:
    search = searches(registry.get(name).Settings)[key]
    for acts, case in ((False, idle), (True, active)):
        if case is None:
            continue
        regime, settings = case
        assert search.acts(registry.create(name, {name: settings}).settings, regime) == acts
        low, high = (weights(name, regime, settings | {key: end}) for end in (search.low, search.high))
        assert all(map(torch.equal, low, high)) != acts
