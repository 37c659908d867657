"""Branches of a U-Net: its end reads skips of its beginning, so it is cut only where nothing is missed."""

import pytest
import torch

from adm_core.branches import Branch
from adm_core.errors import Unsupported
from adm_core.taps import record
from tasks.diffusion import networks

EXAMPLE = (torch.zeros(2, 1, 8, 8), torch.tensor([0, 9]))


def unet(channels=1):
    torch.manual_seed(0)
    return networks.build("unet-w8", channels, 8)


@pytest.mark.parametrize("after", list(unet().taps))
def test_a_unet_branches_rightly_or_is_refused(after):
    network, other = unet(), unet()
    try:
        branch = Branch(other, after, EXAMPLE)
    except Unsupported as error:
        assert "cannot branch" in str(error) or "more than once" in str(error) or "again" in str(error)
        assert after not in ("last", "up1")  # nothing but the output layers come behind them
        return
    noisy, timestep = torch.randn(3, 1, 8, 8), torch.tensor([1, 5, 700])
    network.module.eval()
    branch.eval()
    with torch.no_grad(), record(network, (after,)) as seen:
        expected = network.module(noisy, timestep)
    branch.start_from(seen[after])
    with torch.no_grad():
        assert torch.equal(branch(noisy, timestep), expected)


@pytest.mark.parametrize("after", ["down1", "mid"])
def test_a_unet_whose_skips_would_be_missed_is_refused(after):
    with pytest.raises(Unsupported, match="cannot branch after"):
        Branch(unet(), after, EXAMPLE)
