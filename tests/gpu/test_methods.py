"""Every method on a GPU: the CPU's losses, nothing waited for undeclared, and the same bits once more."""

import warnings

import pytest
import torch
from torch import nn

from adm_core import registry
from adm_core.optimizer import make_optimizers
from adm_core.testing.checks import FORMS, setup_that_suits
from adm_core.testing.fake_gpu import moved
from adm_core.testing.setup import RECIPE, Setup
from tests.built_in import BUILT_IN


def on(device, setup):
    """A setup's twin that lives on a device."""
    twin = setup.twin()
    nn.ModuleList([twin.distiller, *(network.module for network in twin.distiller.networks.values())]).to(device)
    twin.method.know(moved(dict(twin.method.statistics), lambda tensor: tensor.to(device)))
    twin.optimizers = make_optimizers(twin.distiller, RECIPE)
    return twin


def step(setup, device, moment, seed):
    """One training step at a share of training; its total loss, still on the device."""
    generator = torch.Generator(device).manual_seed(seed)
    return setup.train(moved(setup.batch(seed % 2), lambda tensor: tensor.to(device)), moment, generator).total.detach()


def losses(setup, device, moments, first_seed=0):
    """Total losses of a step at each moment."""
    return [float(step(setup, device, moment, first_seed + i)) for i, moment in enumerate(moments)]


def setups(name):
    """The method in every regime that it declares, on every form that it does not decline."""
    places = [(regime, form) for regime in sorted(registry.get(name).card.regimes) for form in FORMS]
    tried = [setup_that_suits(name, regime, {}, form) for regime, form in places]
    return [setup for setup in tried if isinstance(setup, Setup)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_losses_are_those_of_the_cpu(gpu, name):
    """To rounding in the first step, and after an update, where rounding has gone through gradients, a little less.

    Methods that draw get other numbers from a GPU's generator: their losses only have to be finite.
    """
    cpu = torch.device("cpu")
    for setup in setups(name):
        moments = [setup.moments()[-1]] * 2
        here, there = (losses(on(device, setup), device, moments) for device in (cpu, gpu))
        redrawn = losses(on(cpu, setup), cpu, moments, first_seed=2)  # the same batches, other draws
        where = f"{setup.regime}, {setup.form}"
        assert all(torch.isfinite(torch.tensor(there))), where
        if here == redrawn:
            assert there[0] == pytest.approx(here[0], rel=1e-3, abs=1e-5), where
            assert there[1] == pytest.approx(here[1], rel=3e-2, abs=1e-4), where


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_step_waits_for_the_gpu_only_where_that_is_declared(gpu, name):
    for setup in setups(name):
        trained, moments = on(gpu, setup), setup.moments()
        waits = "host-synchronisation" in setup.method.needs.capabilities
        for warm in range(2):  # libraries start in their first step
            batches = [(moment, moved(setup.batch(warm), lambda tensor: tensor.to(gpu))) for moment in moments]
            generators = [torch.Generator(gpu).manual_seed(i) for i in range(len(moments))]
            torch.cuda.set_sync_debug_mode("error" if warm and not waits else "default")
            try:
                for (moment, batch), generator in zip(batches, generators, strict=True):
                    trained.train(batch, moment, generator)
            except RuntimeError as error:
                pytest.fail(f"{setup.regime}, {setup.form}: {error}")
            finally:
                torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", BUILT_IN)
def test_portable_kernels_give_the_same_bits_twice(gpu, name):
    """But for methods for which torch itself says that it has no deterministic kernel: skipped, with its words."""
    told = []
    for setup in setups(name):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            first, second = (losses(on(gpu, setup), gpu, [*setup.moments(), 0.9, 0.9]) for _ in range(2))
        lacking = {str(w.message).split(" does not have")[0] for w in caught if "deterministic" in str(w.message)}
        if lacking:
            told.append(f"{setup.regime}, {setup.form}: {', '.join(sorted(lacking))}")
        else:
            assert first == second, f"{setup.regime}, {setup.form}"
    if told:
        pytest.skip("no deterministic kernel: " + "; ".join(told))
