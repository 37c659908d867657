"""WCoRD: the primal form against linear programming and a literal Sinkhorn, the dual form and its critic literally."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from adm_core import registry
from adm_core.critic import SpectralLinear
from adm_core.losses import contrast, transport
from adm_core.testing.networks import tiny_facts
from adm_core.testing.setup import Setup
from tests.core.literal import numbers, view
from tests.core.resuming import whole_and_resumed
from tests.core.toy import make_step

B, WIDTHS, D = 5, (3, 4), 6
EVERY = torch.ones(B, dtype=torch.bool)


def sphere(seed, count=B):
    rows = numbers(seed, count, D)
    return rows / rows.pow(2).sum(1, keepdim=True).sqrt()


def exact_cost(cost):
    """The least mean cost of pairing rows with columns, by linear programming."""
    n = len(cost)
    constraints = np.zeros((2 * n, n * n))
    for i in range(n):
        constraints[i, i * n : (i + 1) * n] = 1
        constraints[n + i, i::n] = 1
    return linprog(cost.flatten().numpy(), A_eq=constraints, b_eq=np.full(2 * n, 1 / n)).fun


@pytest.mark.parametrize("seed", [0, 2])
def test_small_entropy_tends_to_the_exact_transport(seed):
    ours, theirs = sphere(seed), sphere(seed + 1)
    expected = exact_cost(1 - ours @ theirs.T)
    found = [float(transport.matching_cost(ours, theirs, EVERY, entropy, 3000)) for entropy in (0.1, 0.004)]
    assert found[1] == pytest.approx(expected, abs=1e-3)
    assert found[0] > expected + 0.01  # entropy spreads the plan


def test_the_order_of_the_examples_does_not_matter_and_unknown_ones_do_not_count():
    ours, theirs, known = sphere(0), sphere(1), torch.tensor([True, True, False, True, False])
    found = transport.matching_cost(ours, theirs[[4, 2, 0, 1, 3]], EVERY, 0.05, 50)
    assert float(found) == pytest.approx(float(transport.matching_cost(ours, theirs, EVERY, 0.05, 50)), rel=1e-6)
    some = transport.matching_cost(ours, theirs, known, 0.05, 50)
    alone = transport.matching_cost(ours[known], theirs[known], EVERY[:3], 0.05, 50)
    assert float(some) == pytest.approx(float(alone), rel=1e-9)
    assert float(transport.matching_cost(ours, theirs, ~EVERY, 0.05, 50)) == 0
    assert float(contrast.kantorovich_contrast(ours @ theirs.T, ~EVERY)) == 0


def literal_primal(s, t, entropy, iterations):
    """Sinkhorn's algorithm with plain exponentials, entry by entry; from u = 1, so fitted to columns first."""
    cost = [[1 - sum(a * b for a, b in zip(x, y, strict=True)) for y in t] for x in s]
    kernel = [[torch.exp(-c / entropy) for c in row] for row in cost]
    n = len(cost)
    u = [1.0] * n
    for _ in range(iterations):
        v = [(1 / n) / sum(u[i] * kernel[i][j] for i in range(n)) for j in range(n)]
        u = [(1 / n) / sum(v[j] * kernel[i][j] for j in range(n)) for i in range(n)]
    return sum(u[i] * kernel[i][j] * v[j] * cost[i][j] for i in range(n) for j in range(n))


def literal_dual(s, t, critic):
    """The critic on every pair, its matrix divided by its largest singular value; means as the formula has them."""
    matrix = critic.weight / torch.linalg.matrix_norm(critic.weight, ord=2)

    def score(x, y):
        return sum(matrix[a, b] * x[b] * y[a] for a in range(D) for b in range(D))

    joint = [score(s[i], t[i]) for i in range(B)]
    apart = [score(s[i], t[j]) for i in range(B) for j in range(B) if i != j]
    return sum(apart) / len(apart) - sum(joint) / B


def built(**settings):
    method = registry.create("wcord", {"wcord": {"width": D, **settings}})
    shapes = ({"penultimate": (B, width)} for width in WIDTHS)
    method.take({name: part.double() for name, part in method.build(*shapes, tiny_facts()).items()})
    if "critic" in method.parts:
        method.parts["critic"].weight.data = numbers(7, D, D)
    for _ in range(2000):
        method.after_step()  # power iterations until the singular vectors stand
    return method


def test_terms_and_gradients_are_the_literal_ones():
    method = built(global_weight=2.0, local_weight=3.0, entropy=0.3, iterations=7)
    vectors = [numbers(n, B, width).requires_grad_() for n, width in enumerate(WIDTHS)]
    target = torch.zeros(B, dtype=torch.int64)
    views = [view(numbers(8, B, 5), target, penultimate=each) for each in vectors]
    found = method.losses(*views, make_step(target, 0.5, torch.Generator())).student
    embedded = [
        v @ method.parts[role].weight.T + method.parts[role].bias
        for role, v in (("student", vectors[0]), ("teacher", vectors[1].detach()))
    ]
    s, t = (e / e.pow(2).sum(1, keepdim=True).sqrt() for e in embedded)
    expected = {
        "global": 2 * literal_dual(s, t, method.parts["critic"]),
        "local": 3 * literal_primal(s, t.detach(), 0.3, 7),
    }
    trained = [vectors[0], *(p for part in method.parts.values() for p in part.parameters())]
    assert found.keys() == expected.keys()
    for name, term in found.items():
        assert float(term.detach()) == pytest.approx(float(expected[name].detach()), rel=1e-6, abs=1e-9)
        ours, theirs = (
            torch.autograd.grad(x, trained, retain_graph=True, allow_unused=True) for x in (term, expected[name])
        )
        for own, known in zip(ours, theirs, strict=True):
            assert (own is None) == (known is None)
            if own is not None:
                torch.testing.assert_close(own, known, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("off", "left"), [("global_weight", {"local"}), ("local_weight", {"global"})])
def test_each_form_alone(off, left):
    setup = Setup("wcord", "offline", {"wcord": {off: 0.0}})
    assert set(setup.losses().student) == left
    assert ("critic" in setup.distiller.parts) == (off != "global_weight")


def test_scores_differ_by_no_more_than_one_of_a_pair_does():
    torch.manual_seed(0)
    critic, (one, two, three) = SpectralLinear(D, D), (sphere(n).float() for n in range(3))
    for _ in range(500):
        critic.advance()
    with torch.no_grad():
        moved = (one - three).pow(2).sum(1).sqrt()
        for apart in (critic(one - three) @ two.T, (critic(two) @ (one - three).T).T):
            assert bool((apart.abs() <= moved[:, None] * 1.0001).all()) and float(apart.abs().max()) > 0


def test_trained_embeddings_score_an_example_with_itself_higher():
    setup = Setup("wcord", "offline", {"wcord": {"width": 16}})
    before = float(setup.losses().student["global"].detach())
    for _ in range(30):
        setup.step(0)
    assert float(setup.losses().student["global"].detach()) < -5 * abs(before)


def test_trained_embeddings_move_towards_the_teachers_which_stay_apart(tmp_path, monkeypatch):
    settings = {"wcord": {"width": 16, "global_weight": 0.0, "local_weight": 1.0}}
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "wcord", "offline", settings, epochs=4)
    costs = trained.curves["train.student.local"]
    assert costs[-1] < 0.5 * costs[0]
    assert not any(p.requires_grad for p in run.distiller.parts["teacher"].parameters())
