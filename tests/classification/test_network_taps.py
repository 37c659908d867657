"""Taps before a stage's activation, and the groups of taps that feature distillation reads, as its literature has them.

Widths are those of RepDistiller's and mdistiller's networks; ``preact`` of theirs is what stands before the ReLU.
"""

import pytest
import torch
import torch.nn.functional as F

from adm_core.errors import AdmError
from adm_core.frozen import frozen_copy
from adm_core.taps import probe, record, resolve
from tasks.classification import networks
from tasks.classification.networks.shufflenetv1 import ChannelShuffle
from tests.core.test_frozen import with_lived_statistics

NAMES = [entry["name"] for entry in networks.catalogue()]
ALL_STAGES = {
    "resnet20": (16, 32, 64),
    "resnet8x4": (64, 128, 256),
    "resnet50": (256, 512, 1024, 2048),
    "wrn_40_2": (32, 64, 128),
    "vgg13": (128, 256, 512, 512),
    "mobilenetv2": (12, 16, 48, 160),
    "shufflenetv1": (240, 480, 960),
    "shufflenetv2": (116, 232, 464),
}
"""Width of each map that AT reads there."""
HINTS = {"resnet20": 32, "wrn_40_2": 64, "vgg13": 256, "resnet50": 512, "mobilenetv2": 16, "shufflenetv2": 232}
"""Width of the map that FitNets reads there."""


def build(name):
    torch.manual_seed(0)
    network = with_lived_statistics(networks.build(name, 10, 32))
    network.module.eval()
    return network


def show(network, taps):
    """What a network in evaluation mode shows for two images."""
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), record(network, taps) as seen:
        network.module(images)
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_is_the_activation_of_its_preact(name):
    network = build(name)
    seen = show(network, tuple(network.taps))
    for stage in network.stages:
        before = seen[f"{stage}.preact"]
        if name == "mobilenetv2":  # bottlenecks end without an activation
            assert torch.equal(before, seen[f"{stage}.body" if stage == "stage4" else stage])
        else:
            activated = ChannelShuffle(2)(F.relu(before)) if name == "shufflenetv2" else F.relu(before)
            last_block = "stage3.body" if (name, stage) == ("shufflenetv2", "stage3") else stage
            assert torch.equal(activated, seen[last_block])
        assert float(before.min()) < 0


@pytest.mark.parametrize("name", [name for name in NAMES if name != "shufflenetv2"])
def test_the_normalisation_behind_a_preact_moves_its_mean(name):
    """What is added to its bias is added to the map, channel by channel."""
    network = build(name)
    assert list(network.normalisation) == [f"{stage}.preact" for stage in network.stages]
    for tap, path in network.normalisation.items():
        before = show(network, (tap,))[tap]
        norm = network.module.get_submodule(path)
        added = torch.arange(len(norm.bias)) / 8
        norm.bias.data.add_(added)
        expected = before + added[:, None, None]
        torch.testing.assert_close(show(network, (tap,))[tap], expected, rtol=1e-4, atol=1e-6 * float(expected.max()))
        norm.bias.data.sub_(added)


def test_half_of_shufflenetv2s_channels_have_no_normalisation_before_them():
    assert build("shufflenetv2").normalisation == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_folded_teacher_keeps_its_preacts(name):
    network = build(name)
    taps = network.expand(("all-stages.preact", "all-stages"))
    folded = frozen_copy(network, taps)
    ours, theirs = show(folded, taps), show(network, taps)
    for tap in taps:
        torch.testing.assert_close(ours[tap], theirs[tap], rtol=1e-3, atol=1e-3 * float(theirs[tap].abs().max()))


@pytest.mark.parametrize("name", ALL_STAGES)
def test_groups_are_the_literatures(name):
    network = build(name)
    taps = network.expand(("all-stages", "all-stages.preact", "hint"))
    widths = {tap: shape[1] for tap, shape in probe(network, taps, (torch.zeros(1, 3, 32, 32),)).items()}
    every = ALL_STAGES[name]
    assert [widths[f"all-stages.{n}"] for n in range(1, len(every) + 1)] == list(every)
    assert [widths[f"all-stages.preact.{n}"] for n in range(1, len(every) + 1)] == list(every)
    assert len(taps) == 2 * len(every) + 1 and widths["hint"] == HINTS.get(name, every[1])


def test_wide_residual_networks_are_read_before_the_normalisation_that_follows_a_block():
    network = build("wrn_16_2")
    seen = show(network, ("all-stages.1", "stage1.preact"))
    norm = resolve(network, ("stage1.preact",))["stage1.preact"]
    torch.testing.assert_close(norm(seen["all-stages.1"]), seen["stage1.preact"])


def test_a_network_without_preacts_says_so():
    network = networks.build("torchvision/resnet18", 10, 32)
    with pytest.raises(AdmError, match=r"network 'torchvision/resnet18': unknown tap 'stage1\.preact'"):
        resolve(network, network.expand(("all-stages.preact",)))
