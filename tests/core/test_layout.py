"""Weights in channels-last order, and the convolutions whose gradient torch's library gets wrong there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from adm_core.errors import AdmError
from adm_core.kernels import variables
from adm_core.layout import channels_last

SCRIPT = """
import torch
from torch import nn
from adm_core.layout import channels_last

torch.manual_seed(0)
strided = ((8, 1, 2, 1), (9, 1, 2, 1), (12, 1, 2, 1), (16, 1, 2, 4), (4, 1, 2, 4))
for channels, side, stride, groups in (*strided, (4, 1, 1, 1), (4, 3, 2, 1), (3, 3, 2, 1), (2, 3, 1, 1)):
    convolution = nn.Conv2d(channels, 8, side, stride, side // 2, groups=groups, bias=False)
    exact = nn.Conv2d(channels, 8, side, stride, side // 2, groups=groups, bias=False).double()
    exact.load_state_dict(convolution.state_dict())
    channels_last(convolution, "it")
    images = torch.randn(8, channels, 20, 24)
    convolution(images.to(memory_format=torch.channels_last)).square().sum().backward()
    exact(images.double()).square().sum().backward()
    torch.testing.assert_close(convolution.weight.grad.double(), exact.weight.grad, rtol=1e-4, atol=1e-2)
"""


def test_gradients_of_what_is_let_through_are_those_of_float64_under_portable_kernels():
    environment = dict(os.environ) | variables("portable")
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_weights_are_put_in_order():
    module = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 1, 2))
    channels_last(module, "network 'own'")
    assert all(part.weight.is_contiguous(memory_format=torch.channels_last) for part in module)


@pytest.mark.parametrize("channels", [1, 4, 7])
def test_a_strided_convolution_of_few_channels_is_refused_on_a_cpu(channels):
    """uxlfoundation/oneDNN#6035: with AVX2 its workers died of a corrupt heap, or went on with a wrong gradient."""
    module = nn.Sequential(nn.Conv2d(3, channels, 3), nn.Sequential(nn.Conv2d(channels, 16, 1, 2)))
    told = f"^network 'own': 1.0 is a strided 1x1 convolution of {channels} channels, whose .* make it wider$"
    with pytest.raises(AdmError, match=told):
        channels_last(module, "network 'own'")
    channels_last(module.to("meta"), "network 'own'")
