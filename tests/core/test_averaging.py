"""Moving averages of weights: the numbers and the state of torch's own class, bit for bit."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from adm_core.averaging import MovingAverage


def network() -> nn.Module:
    """Weights, floating buffers and a whole-number buffer (batch normalisation's count)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))


def test_it_is_torchs_average_bit_for_bit():
    trained = network()
    found = MovingAverage(trained, 0.9)
    expected = AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=0.1)
    for step in range(5):
        trained(torch.randn(4, 2, 6, 6)).pow(2).mean().backward()
        optimizer.step()
        found.update()
        expected.update_parameters(trained)
        assert found.state_dict().keys() == expected.state_dict().keys()
        for name, value in expected.state_dict().items():
            assert torch.equal(found.state_dict()[name], value), (step, name)
    assert not torch.equal(found.module[0].weight, trained[0].weight)


def test_it_goes_on_from_a_loaded_state_and_follows_loaded_weights():
    trained = network()
    average = MovingAverage(trained, 0.5)
    state = {name: torch.zeros_like(value) for name, value in average.state_dict().items()}
    average.load_state_dict(state | {"n_averaged": torch.tensor(3)})
    trained.load_state_dict({name: torch.full_like(value, 4) for name, value in trained.state_dict().items()})
    average.update()
    for tensor in (*average.module.parameters(), *average.module.buffers()):
        torch.testing.assert_close(tensor, torch.full_like(tensor, 2))
