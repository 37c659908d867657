"""Learning-rate schedules and per-network settings against PyTorch's own schedulers and closed forms."""

import pytest
import torch
from pydantic import ValidationError

from adm_core.recipe import Optimizer, Recipe, Schedule


def torch_factors(make, steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = make(optimizer)
    out = []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


def ours(schedule, epochs, steps):
    return [schedule.factor(epochs * s / steps, epochs) for s in range(steps)]


def test_step_is_multistep():
    expected = torch_factors(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [150, 180, 210], 0.1), 240)
    assert ours(Schedule(name="step", milestones=(150, 180, 210)), 240, 240) == pytest.approx(expected)


def test_cosine_is_cosine_annealing():
    expected = torch_factors(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 100), 100)
    assert ours(Schedule(name="cosine"), 10, 100) == pytest.approx(expected, abs=1e-9)


def test_poly_is_polynomial():
    expected = torch_factors(lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 100, power=0.9), 100)
    assert ours(Schedule(name="poly", power=0.9), 10, 100) == pytest.approx(expected, abs=1e-9)


def test_onecycle_rises_and_falls_like_torchs():
    expected = torch_factors(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 1.0, total_steps=1001, pct_start=0.2, div_factor=25, final_div_factor=1e9, cycle_momentum=False
        ),
        1000,
    )
    assert ours(Schedule(name="onecycle", warmup=2, initial=0.04), 10, 1000) == pytest.approx(expected, abs=0.01)


def test_linear_warmup():
    s = Schedule(name="constant", warmup=2, initial=0.0)
    assert [s.factor(e, 10) for e in (0, 1, 2, 9)] == [0.0, 0.5, 1.0, 1.0]


def test_networks_by_pattern_then_teacher():
    r = Recipe.model_validate(
        {"epochs": 1, "batch_size": 4, "optimizer": {"lr": 0.05, "weight_decay": 5e-4},
         "networks": {"mobilenet*": {"lr": 0.01}}, "teacher": {"weight_decay": 0.0}}
    )  # fmt: skip
    assert r.optimizer_of("mobilenetv2", "student").lr == 0.01
    assert r.optimizer_of("resnet8", "student") == Optimizer(lr=0.05, weight_decay=5e-4)
    assert r.optimizer_of("mobilenetv2", "teacher").weight_decay == 0.0


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ({"name": "step", "milestones": [150, 180, 210]}, "milestones: 150, 180, 210 are never reached, .* 12 epochs"),
        ({"name": "step", "milestones": [0, 6, 12]}, "milestones: 0, 12 are never reached"),
        ({"name": "cosine", "milestones": [6]}, "schedule 'cosine' has none; use 'step'"),
        ({"name": "cosine", "warmup": 20}, "warmup: 20 epochs leave nothing after it, as training has 12"),
        ({"name": "constant", "warmup": 12}, "warmup: 12 epochs leave nothing"),
    ],
)
def test_a_schedule_that_the_training_does_not_reach_is_refused_with_the_numbers(schedule, told):
    recipe = {"epochs": 12, "batch_size": 4, "optimizer": {"lr": 0.05}}
    with pytest.raises(ValidationError, match=told):
        Recipe.model_validate(recipe | {"schedule": schedule})
    Recipe.model_validate(recipe | {"schedule": {"name": "step", "milestones": [6, 11.5], "warmup": 11.9}})


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"precision": "fp8"}, {"lr": 1}, {"accumulate": 3}])
def test_bad_recipes_are_refused(bad):
    with pytest.raises(ValidationError):
        Recipe.model_validate({"epochs": 1, "batch_size": 4, "optimizer": {"lr": 0.05}} | bad)


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "step", "milestones": [3, 4.5], "warmup": 1},
        {"name": "onecycle", "warmup": 2},
        {"name": "cosine", "final": 0.1},
        {"name": "poly"},
        {"name": "constant"},
    ],
)
def test_a_stretched_recipe_has_the_same_schedule_over_more_epochs(schedule):
    own = Recipe.model_validate({"epochs": 6, "batch_size": 4, "optimizer": {"lr": 0.05}, "schedule": schedule})
    longer = own.stretched(1.8)  # 10.8 epochs: whole ones are 11
    assert longer.epochs == 11
    for done in (0.0, 0.1, 0.3, 0.49, 0.51, 0.74, 0.76, 0.99):
        expected = own.schedule.factor(6 * done, 6)
        assert longer.schedule.factor(11 * done, 11) == pytest.approx(expected)
    assert longer.model_copy(update={"epochs": 6, "schedule": own.schedule}) == own
