"""The task's own networks: the literature's sizes, taps at the literature's places, honest maps."""

import re

import pytest
import torch
import torch.nn.functional as F

from adm_core.errors import AdmError
from adm_core.taps import probe, record
from tasks.classification import networks

LITERATURE = {
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "resnet50": 23_705_252,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "mobilenetv2": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
}
"""Trainable parameters at 100 classes."""
CIFAR_MAPS = ((16, 32), (32, 16), (64, 8))
WIDE_MAPS = ((64, 32), (128, 16), (256, 8))
MAPS = {
    **dict.fromkeys(["resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"], CIFAR_MAPS),
    **dict.fromkeys(["resnet8x4", "resnet32x4"], WIDE_MAPS),
    "resnet50": ((256, 32), (512, 16), (1024, 8), (2048, 4)),
    **dict.fromkeys(["wrn_16_1", "wrn_40_1"], CIFAR_MAPS),
    **dict.fromkeys(["wrn_16_2", "wrn_40_2"], ((32, 32), (64, 16), (128, 8))),
    **dict.fromkeys(["vgg8", "vgg13"], ((64, 32), (128, 16), (256, 8), (512, 4), (512, 4))),
    "mobilenetv2": ((12, 16), (16, 8), (48, 4), (1280, 2)),
    "shufflenetv1": ((240, 16), (480, 8), (960, 4)),
    "shufflenetv2": ((116, 16), (232, 8), (1024, 4)),
}
"""Width and side of each stage's map for an image of 32x32, shallow to deep."""
NAMES = [entry["name"] for entry in networks.catalogue()]
SMALL = re.compile(r"resnet(\d+)w(\d+)s([12])")
OWN = {name: tuple(map(int, found.groups())) for name in NAMES if (found := SMALL.fullmatch(name))}
"""Our own small ones: depth, width of the first stage, stride of the stem, as their names say."""


def expected_parameters(name: str) -> int:
    """The literature's number, or for our own the sum over convolutions, normalisations and classifier."""
    if name not in OWN:
        return LITERATURE[name]
    depth, width, _ = OWN[name]
    total, before = 9 * 3 * width + 2 * width, width
    for after in (width, 2 * width, 4 * width):
        total += 9 * before * after + 9 * after * after + 4 * after
        total += before * after + 2 * after if before != after else 0
        total += ((depth - 2) // 6 - 1) * (18 * after * after + 4 * after)
        before = after
    return total + 100 * before + 100


def expected_maps(name: str) -> tuple[tuple[int, int], ...]:
    """Width and side of each stage's map."""
    if name not in OWN:
        return MAPS[name]
    _, width, stride = OWN[name]
    return tuple((width * 2**stage, 32 // stride // 2**stage) for stage in range(3))


def build(name: str, classes: int = 100):
    """A network whose batch statistics are its own defaults, initialised from a fixed seed."""
    torch.manual_seed(0)
    return networks.build(name, classes, 32)


def images(count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_the_lists_of_this_test_and_of_the_task_are_the_same():
    assert set(LITERATURE) == set(MAPS) == set(NAMES) - set(OWN)
    assert expected_parameters("resnet14w16s2") == LITERATURE["resnet14"]  # the sum is right


@pytest.mark.parametrize("name", NAMES)
def test_trainable_parameters_are_exactly_the_literatures(name):
    counted = sum(p.numel() for p in build(name).module.parameters() if p.requires_grad)
    told = next(entry["parameters"] for entry in networks.catalogue() if entry["name"] == name)
    assert counted == expected_parameters(name) == told


@pytest.mark.parametrize("name", NAMES)
def test_taps_have_the_literatures_shapes(name):
    network = build(name)
    shapes = probe(network, tuple(network.taps), (images(),))
    expected = {f"stage{i}": (2, width, side, side) for i, (width, side) in enumerate(expected_maps(name), start=1)}
    expected = {tap: shape for tap, shape in shapes.items() if "." in tap} | expected
    width = expected_maps(name)[-1][0]
    expected |= {"penultimate": (2, width), "logits": (2, 100), "prediction": (2, 100), "head": (100, width)}
    assert shapes == expected
    assert list(network.taps) == next(entry["taps"] for entry in networks.catalogue() if entry["name"] == name)


@pytest.mark.parametrize("name", NAMES)
def test_the_classifier_on_the_mean_of_the_last_stage_gives_the_logits(name):
    network = build(name, classes=7)
    network.module.eval()
    with torch.no_grad(), record(network, ("last", "penultimate", "logits")) as seen:
        prediction = network.module(images())
    pooled = seen["last"].mean(dim=(2, 3))
    torch.testing.assert_close(seen["penultimate"], pooled)
    torch.testing.assert_close(network.classifier()(pooled), prediction)
    assert torch.equal(seen["logits"], prediction)


@pytest.mark.parametrize("name", NAMES)
def test_no_later_module_overwrites_a_recorded_map(name):
    """Every stage runs again on copies of the maps before it and must give what was recorded."""
    network = build(name)
    network.module.train()
    stages = [tap for tap in network.taps if tap.startswith("stage")]
    copies: dict[str, torch.Tensor] = {}
    for stage in stages:
        module = network.module.get_submodule(network.path(stage))
        module.register_forward_hook(lambda _m, _i, output, stage=stage: copies.update({stage: output.clone()}))
    with record(network, stages) as seen:
        network.module(images()).sum().backward()
    assert all(torch.equal(seen[stage], copies[stage]) for stage in stages)


def test_maps_of_activated_stages_are_not_negative():
    for name in ("resnet20", "wrn_16_2", "vgg8", "shufflenetv1", "shufflenetv2", "mobilenetv2"):
        network = build(name)
        with torch.no_grad(), record(network, ("last",)) as seen:
            network.module(images())
        assert seen["last"].min() >= 0, name


@pytest.mark.parametrize("name", ["resnet8", "vgg8", "wrn_16_1", "mobilenetv2", "shufflenetv2"])
def test_every_parameter_learns(name):
    network = build(name, classes=5)
    F.cross_entropy(network.module(images(4)), torch.arange(4)).backward()
    idle = [key for key, p in network.module.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("name", ["resnet20", "vgg8", "shufflenetv1"])
def test_building_is_a_function_of_the_seed_and_draws_nothing_beyond_initialisation(name):
    one, two = build(name).module.state_dict(), build(name).module.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    after_build = torch.get_rng_state()
    networks.catalogue()
    probe(build(name), ("last",), (images(),))
    assert torch.equal(after_build, torch.get_rng_state())


def test_larger_images_are_taken_too():
    for name in ("resnet20", "vgg8", "mobilenetv2"):
        with torch.no_grad():
            assert build(name).module(images(2, 64)).shape == (2, 100)


@pytest.mark.parametrize(("wrong", "near"), [("resnet2", "resnet20"), ("wrn-40-2", "wrn_40_2"), ("vgg-13", "vgg13")])
def test_a_misspelt_name_is_told_the_nearest(wrong, near):
    with pytest.raises(AdmError, match=rf"^unknown network '{wrong}'; did you mean .*\b{near}\b"):
        networks.build(wrong, 100)
