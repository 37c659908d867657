"""The step in which scores move is found in the scores, and none where there is none."""

from __future__ import annotations

import random

import pytest

from results.analysis.grain import grain


@pytest.mark.parametrize("images", [200, 1797, 2000, 3333, 10_000, 50_000])
def test_shares_of_images_move_in_steps_of_one_image(images: int) -> None:
    source = random.Random(images)
    shares = [100 * source.randint(images // 2, images) / images for _ in range(9)]
    assert grain(shares) == pytest.approx(100 / images)
    assert grain([1 - share / 100 for share in shares]) == pytest.approx(1 / images)


def test_scores_that_are_no_shares_have_none() -> None:
    source = random.Random(0)
    assert grain([source.gauss(30, 4) for _ in range(4)]) == 0.0
    assert grain([33.728805422477166, 30.0, 31.5]) == 0.0


def test_a_chance_common_step_is_never_too_small() -> None:
    assert grain([88.05, 88.1, 88.0, 88.05]) == pytest.approx(0.05)
    assert grain([88.1, 88.0]) == pytest.approx(0.1)  # on 2,000 images it may well be 0.05
    assert grain([70.0, 70.0]) == 70.0 and grain([0.0, 0.0]) == 0.0 and grain([]) == 0.0
