"""A frozen teacher's copy shows what the teacher shows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from adm_core.frozen import frozen_copy
from adm_core.taps import Network, record
from tasks.classification import networks

NAMES = ["resnet20", "resnet50", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"]


def with_lived_statistics(network: Network) -> Network:
    """Normalisation layers as after training: statistics and factors that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    for module in network.module.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                tensor.data.copy_(torch.randn(tensor.shape, generator=generator) / 5)
            for tensor in (module.running_var, module.weight):
                tensor.data.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return network


def count(module: nn.Module) -> int:
    return sum(isinstance(child, nn.BatchNorm2d) for child in module.modules())


@pytest.mark.parametrize("name", [*NAMES, "torchvision/resnet18", "torchvision/mobilenet_v3_small"])
def test_predictions_and_taps_are_the_teachers(name: str) -> None:
    torch.manual_seed(0)
    teacher = with_lived_statistics(networks.build(name, 10, 32))
    taps = [tap for tap in teacher.taps if tap.startswith("stage") or tap == "penultimate"]
    before = copy.deepcopy(teacher.module.state_dict())
    frozen = frozen_copy(teacher, taps)
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    teacher.module.eval()
    with torch.no_grad(), record(teacher, taps) as theirs:
        expected = teacher.module(image)
    with record(frozen, taps) as ours:
        prediction = frozen.module(image)
    assert not prediction.requires_grad
    torch.testing.assert_close(prediction, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    for tap in taps:
        torch.testing.assert_close(ours[tap], theirs[tap], rtol=1e-3, atol=1e-3 * float(theirs[tap].abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in teacher.module.state_dict().items())


@pytest.mark.parametrize("name", ["resnet20", "vgg8", "torchvision/mobilenet_v3_small"])
def test_normalisation_is_folded_away(name: str) -> None:
    teacher = networks.build(name, 10, 32)
    assert count(teacher.module) > 4 and count(frozen_copy(teacher, []).module) == 0


def test_what_cannot_be_folded_safely_stays() -> None:
    conv, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    tapped = Network("tapped", nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), {"stage1": "0"})
    shared = Network("shared", nn.Sequential(nn.Sequential(conv, norm), nn.Sequential(conv, nn.ReLU())))
    apart = Network("apart", nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)))
    grouped = Network("grouped", nn.Sequential(nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3)))
    assert count(frozen_copy(tapped, ["stage1"]).module) == 1
    assert count(frozen_copy(tapped, []).module) == 0
    assert count(frozen_copy(shared, []).module) == 1
    assert count(frozen_copy(apart, []).module) == 1
    assert isinstance(frozen_copy(grouped, []).module[1], nn.GroupNorm)
