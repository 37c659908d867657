"""Taps: semantic names, hooks that live only while someone listens, and silence that is an error."""

import os

import pytest
import torch
from torch import nn

from adm_core.errors import AdmError, Unsupported
from adm_core.taps import Network, check_fired, probe, record
from adm_core.testing.networks import tiny_network
from adm_core.testing.setup import Setup


def hooks(module):
    return sum(len(m._forward_hooks) for m in module.modules())


def test_recorded_maps_are_the_modules_outputs_and_hooks_go_away():
    net = tiny_network(8)
    x = torch.randn(2, 3, 16, 16)
    with record(net, ["stage1", "last"]) as seen:
        net.module(x)
    net.module.eval()
    assert hooks(net.module) == 0 and seen["stage1"].shape == (2, 8, 8, 8) and seen["last"].shape == (2, 32, 4, 4)


def test_hooks_go_away_when_the_forward_pass_fails():
    net = tiny_network(8)
    with pytest.raises(RuntimeError), record(net, ["stage1"]):
        net.module(torch.randn(2, 5, 16, 16))
    assert hooks(net.module) == 0


def test_a_tap_that_is_not_there_names_the_nearest():
    with pytest.raises(AdmError, match="network 'tiny8': unknown tap 'stag2'; did you mean stage2"):
        probe(tiny_network(8), ["stag2"], (torch.zeros(2, 3, 16, 16),))


def test_a_tap_that_points_nowhere():
    net = tiny_network(8)
    with pytest.raises(AdmError, match=r"points at 'stages\.9', which is not there"):
        probe(Network("n", net.module, {"stage1": "stages.9"}), ["stage1"], (torch.zeros(2, 3, 16, 16),))


def test_a_silent_tap_is_an_error():
    net = tiny_network(8)
    net.module.aside = nn.Identity()
    silent = Network("n", net.module, {"stage1": "aside"})
    with pytest.raises(AdmError, match="tap stage1 never fired"):
        probe(silent, ["stage1"], (torch.zeros(2, 3, 16, 16),))
    with pytest.raises(AdmError, match="never fired"):
        check_fired(silent, ["stage1"], {})


def test_probing_leaves_mode_and_statistics_alone():
    net = tiny_network(8)
    before = {k: v.clone() for k, v in net.module.state_dict().items()}
    probe(net, ["last"], (torch.randn(4, 3, 16, 16),))
    assert net.module.training and all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())


def test_taps_fire_under_real_ddp():
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, init_method="tcp://127.0.0.1:29877")
    try:
        bench = Setup("dml+adm", "online", {})
        plain = float(bench.loss(0).detach())
        d = bench.distiller
        d.networks = {
            role: Network(n.name, nn.parallel.DistributedDataParallel(n.module), n.taps, n.head)
            for role, n in d.networks.items()
        }
        assert float(bench.loss(0).detach()) == pytest.approx(plain)
    finally:
        torch.distributed.destroy_process_group()


def test_a_network_without_a_tap_that_the_method_reads_is_unsupported_with_a_reason():
    with pytest.raises(Unsupported, match="network 'tiny8': unknown tap 'stage9'; did you mean stage"):
        Setup("adm", "online", {"adm": {"taps": ["stage9"]}})


def test_a_method_of_the_wrong_regime_is_unsupported_with_a_reason():
    with pytest.raises(Unsupported, match="'dml' runs online and peers, not offline"):
        Setup("dml", "offline", {})
