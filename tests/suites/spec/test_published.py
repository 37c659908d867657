"""Suites that say 'as published': the settings of their rows, against figures read in the code that they name."""

from __future__ import annotations

from typing import Any

import pytest

from adm_core import registry
from suites.spec.definition import load_protocol
from suites.spec.expand import expand
from suites.spec.method_settings import settings_of

CRITIC = {"pair_weight": 0.0, "adversarial_weight": 0.001, "critic_weight": 0.1, "critic_lr": 4e-4}
CIRKD: dict[str, dict[str, dict[str, Any]]] = {
    "kd+at": {"at": {"taps": ("penultimate",), "weight": 10000.0}},
    "kd+fitnet": {"fitnet": {"tap": "penultimate", "weight": 10.0, "regressor": "conv"}},
    "kd+skd": {"skd": CRITIC | {"pair_weight": 10.0, "tap": "penultimate"}},
    "kd+ifvd+skd": {"ifvd": {"weight": 20.0, "tap": "penultimate"}, "skd": CRITIC},
    "kd+cwd+skd": {"cwd": {"feature_weight": 50.0, "logit_weight": 3.0, "temperature": 4.0}, "skd": CRITIC},
    "dsd": {"dsd": {"taps": ("auxiliary1", "penultimate", "logits"), "pixel_weight": 1000.0, "category_weight": 10.0}},
    "kd+cirkd": {"cirkd": {"minibatch": 1.0, "pixel": 0.1, "region": 0.1, "temperature": 0.1}},
}
"""winycg/CIRKD at 91735ef: ``train_scripts/train_kd/*.sh`` for weights, ``train_kd.py`` for what they are of."""
PUBLISHED = CIRKD | {
    "dist": {"dist": {"temperature": 1.0, "weight": 1.0, "auxiliary_weight": 0.4}},
    "mgd+cwd": {"mgd": {"tap": "last", "weight": 2e-5, "ratio": 0.75},
                "cwd": {"feature_weight": 0.0, "logit_weight": 3.0, "temperature": 4.0}},
}  # fmt: skip
"""hunto/DIST_KD at 2418f18, ``segmentation/train_kd.py``; yzd-v/MGD at 2c9da0b, ``seg/configs/distillers/mgd`` and
``seg/mmseg/distillation/distillers/segmentation_distiller.py``."""
SEGFORMER = {
    "kd+cwd+skd": {"cwd": {"feature_weight": 5.0, "logit_weight": 0.3}, "skd": CRITIC},
    "dsd": {"dsd": {"taps": ("penultimate", "logits")}},
    "dist": {"dist": {"auxiliary_weight": 0.0}},
}
"""CIRKD's ``train_kd_segformer.py``, in which networks have no auxiliary head."""
OTHERS = {"seg-voc": {"kd+cirkd": {"cirkd": {"pixel": 0.01, "region": 0.01}}}}
"""CIRKD's ``train_scripts/train_cirkd/voc``."""


@pytest.mark.parametrize("name", ["seg-cityscapes", "seg-camvid", "seg-voc", "seg-ade20k"])
def test_rows_of_segmentation_have_the_settings_that_their_sources_have(name: str) -> None:
    found: set[str] = set()
    for row in expand(name).rows:
        parts, teacher = {part.name: settings_of(part) for part in row.cell.method}, row.cell.teacher or ""
        spec = next((known for known in PUBLISHED if set(known.split("+")) == set(parts)), "")
        expected = PUBLISHED.get(spec, {}) | OTHERS.get(name, {}).get(spec, {})
        expected |= SEGFORMER.get(spec, {}) if teacher.startswith("segformer") else {}
        for part, settings in expected.items():
            assert {key: _plain(parts[part][key]) for key in settings} == settings, (spec, teacher)
            found.add(spec)
        if "kd" in parts and row.cell.regime == "offline":
            assert parts["kd"] == {"temperature": 1.0, "weight": 1.0, "task_weight": 1.0, "standardise": False}
    assert found == set(PUBLISHED)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_dkds_beta_is_mdistillers() -> None:
    """megvii-research/mdistiller at a08d46f, ``configs/cifar100/dkd``; resnet110 > resnet20 is the LS authors'."""
    betas = {
        f"{row.cell.teacher} > {row.cell.student}": settings_of(part)["beta"]
        for row in expand("cifar100-offline").rows
        for part in row.cell.method
        if part.name == "dkd" and row.label != "dkd+ls"
    }
    two = dict.fromkeys(["resnet56 > resnet20", "resnet110 > resnet20", "resnet110 > resnet32"], 2.0)
    six = ["wrn_40_2 > wrn_16_2", "wrn_40_2 > wrn_40_1", "vgg13 > vgg8", "vgg13 > mobilenetv2"]
    assert betas == dict.fromkeys(betas, registry.get("dkd").defaults()["beta"]) | two | dict.fromkeys(six, 6.0)
    assert len(betas) == 13


def test_the_recipe_of_segformer_is_cirkds() -> None:
    """``train_kd_segformer.py``: its defaults for weight decay, power and warm-up; its scripts for the rest."""
    _, protocol = load_protocol("cityscapes-segformer-160k")
    recipe, schedule = protocol.recipe, protocol.recipe.schedule
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay, recipe.batch_size) == ("adamw", 2e-4, 1e-4, 8)
    assert (schedule.name, schedule.power, schedule.warmup) == ("poly", 0.9, 0)
    assert abs(recipe.epochs * (2975 // 8) - 160_000) < 100
