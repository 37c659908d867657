"""Taps before a stage's activation, and the groups of taps that feature distillation reads, as its literature has them.

Widths are those of RepDistiller's and mdistiller's networks; ``preact`` of theirs is what stands before the ReLU.
"""

import functools

import pytest
import torch
import torch.nn.functional as F

from adm_core import registry
from adm_core.card import members
from adm_core.errors import AdmError
from adm_core.frozen import frozen_copy
from adm_core.taps import probe, record, resolve
from adm_core.testing.networks import tiny_facts
from suites.spec.definition import load_suite
from tasks.classification import networks
from tasks.classification.networks.shufflenetv1 import ChannelShuffle
from tests.core.test_frozen import with_lived_statistics

NAMES = [entry["name"] for entry in networks.catalogue()]
PUBLISHED = {
    **{name: [(16, 32), (32, 16), (64, 8)] for name in ("resnet20", "resnet32", "resnet56", "resnet110")},
    **{name: [(64, 32), (128, 16), (256, 8)] for name in ("resnet8x4", "resnet32x4")},
    "resnet50": [(256, 32), (512, 16), (1024, 8), (2048, 4)],
    "wrn_40_1": [(16, 32), (32, 16), (64, 8)],
    **{name: [(32, 32), (64, 16), (128, 8)] for name in ("wrn_16_2", "wrn_40_2")},
    **{name: [(128, 16), (256, 8), (512, 4), (512, 4)] for name in ("vgg8", "vgg13")},
    "mobilenetv2": [(12, 16), (16, 8), (48, 4), (160, 2)],
    "shufflenetv1": [(240, 16), (480, 8), (960, 4)],
    "shufflenetv2": [(116, 16), (232, 8), (464, 4)],
}
"""Width and side, at 32 pixels, of the maps that AT reads: RepDistiller@b84f547's ``feat[1:-1]``, which are
mdistiller@a08d46f's ``feats[1:]``. FitNets' hint is the second of them, ``feat[2]``, in both."""
PAIRS = [(pair.teacher, pair.student) for block in load_suite("cifar100-offline").blocks for pair in block.pairs]


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


@functools.cache
def shapes(name):
    network = build(name)
    taps = network.expand(("all-stages", "all-stages.preact", "hint"))
    return probe(network, taps, (torch.zeros(1, 3, 32, 32),))


@pytest.mark.parametrize("name", PUBLISHED)
def test_groups_are_the_literatures(name):
    found, every = shapes(name), PUBLISHED[name]
    for group in ("all-stages", "all-stages.preact"):
        assert [found[tap][1:3] for tap in members([group], found)] == every
    assert found["hint"][1:3] == every[1]


def test_at_and_fitnet_run_as_published_on_the_literatures_pairs():
    """A student's map twice as large takes a convolution of stride 2, one half as large a transposed one."""
    assert len(PAIRS) == 13
    regressors = {}
    for teacher, student in PAIRS:
        pair = shapes(student), shapes(teacher)
        assert registry.create("at").supports(*pair, "offline") is None
        assert registry.create("fitnet").supports(*pair, "offline") is None
        assert len(PUBLISHED[student]) == len(PUBLISHED[teacher])
        (regressor,) = registry.create("fitnet").build(*pair, tiny_facts()).values()
        regressors[f"{teacher} > {student}"] = type(regressor[0]).__name__, *regressor[0].stride
    half = {pair for pair, kind in regressors.items() if kind == ("ConvTranspose2d", 2, 2)}
    assert half == {"resnet50 > mobilenetv2", "resnet50 > vgg8", "resnet32x4 > shufflenetv1",
                    "resnet32x4 > shufflenetv2", "wrn_40_2 > shufflenetv1"}  # fmt: skip
    assert {kind for pair, kind in regressors.items() if pair not in half} == {("Conv2d", 1, 1)}


def test_wide_residual_networks_are_read_before_the_normalisation_that_follows_a_block():
    network = build("wrn_16_2")
    seen = show(network, ("all-stages.1", "stage1.preact"))
    norm = resolve(network, ("stage1.preact",))["stage1.preact"]
    torch.testing.assert_close(norm(seen["all-stages.1"]), seen["stage1.preact"])


def test_a_network_without_preacts_says_so():
    network = networks.build("torchvision/resnet18", 10, 32)
    with pytest.raises(AdmError, match=r"network 'torchvision/resnet18': unknown tap 'stage1\.preact'"):
        resolve(network, network.expand(("all-stages.preact",)))
