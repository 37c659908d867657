"""A frozen teacher made faster: batch normalisation folded into the convolution before it.

In evaluation mode ``bn(conv(x))`` is one convolution, so the frozen teacher's forward pass, which every step of an
offline method pays for, saves its normalisation layers: about a tenth of resnet56's time on a CPU. Outputs agree to
rounding.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from adm_core.taps import Network, resolve, unwrap


def frozen_copy(network: Network, taps: Sequence[str]) -> Network:
    """A copy in evaluation mode, without gradients, folded where that is safe; the original is left as it is.

    Safe is: the two layers follow each other in an ``nn.Sequential``, neither is used twice, and no tap reads the
    convolution's output.

    Args:
        network: the teacher.
        taps: what will be read from it.
    """
    copied = replace(network, module=copy.deepcopy(unwrap(network.module)).eval().requires_grad_(False))
    read = {id(module) for module in resolve(copied, taps).values()}
    uses = Counter(id(child) for parent in copied.module.modules() for child in parent.children())
    for parent in list(copied.module.modules()):
        if not isinstance(parent, nn.Sequential) or type(parent).forward is not nn.Sequential.forward:
            continue
        for first, second in itertools.pairwise(list(parent._modules)):
            conv, norm = parent._modules[first], parent._modules[second]
            if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or type(conv) is not nn.Conv2d:
                continue
            if id(conv) in read or uses[id(conv)] > 1 or uses[id(norm)] > 1:
                continue
            parent._modules[first] = fuse_conv_bn_eval(conv, norm).requires_grad_(False)
            parent._modules[second] = nn.Identity()  # keeps the place, and the value, of a tap on the normalisation
    return copied
