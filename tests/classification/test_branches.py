"""Branches of the task's own networks and of library ones: equal weights give equal predictions."""

import copy

import pytest
import torch

from adm_core.branches import Branch
from adm_core.taps import record
from tasks.classification import networks

CASES = [
    ("resnet8w8s2", 32, "stage2"),
    ("resnet8x4", 32, "stage1"),
    ("wrn_16_1", 32, "stage2"),
    ("vgg8", 32, "stage3"),
    ("mobilenetv2", 32, "stage2"),
    ("shufflenetv1", 32, "stage1"),
    ("shufflenetv2", 32, "stage2"),
    ("torchvision/resnet18", 64, "stage3"),
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "side", "after"), CASES)
def test_a_branch_of_equal_weights_predicts_what_the_network_does(name, side, after, training):
    torch.manual_seed(0)
    student = networks.build(name, 10, side)
    twin = copy.deepcopy(student)
    whole = sum(p.numel() for p in student.module.parameters())
    branch = Branch(twin, after, (torch.zeros(2, 3, side, side),))
    for module in (student.module, branch):
        module.train(training)
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    with record(student, (after,)) as seen:
        torch.manual_seed(2)  # of dropout, where there is some
        expected = student.module(images)
    branch.start_from(seen[after])
    torch.manual_seed(2)
    assert torch.equal(branch(images), expected)
    assert 0 < sum(p.numel() for p in branch.parameters()) < whole
