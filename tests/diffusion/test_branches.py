"""A U-Net has no end of its own: what comes up reads what went down, so it is not branched but refused."""

import pytest
import torch

from adm_core.branches import Branch
from adm_core.errors import Unsupported
from tasks.diffusion import networks


def unet():
    torch.manual_seed(0)
    return networks.build("unet-w8", 1, 8)


@pytest.mark.parametrize("after", list(unet().taps))
def test_a_unet_is_refused_wherever_it_would_be_cut(after):
    example = (torch.zeros(2, 1, 8, 8), torch.tensor([0, 9]))
    with pytest.raises(Unsupported, match=f"network 'unet-w8' (cannot branch after|runs) '?({after}|parts)"):
        Branch(unet(), after, example)
