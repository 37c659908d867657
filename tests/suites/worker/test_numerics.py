"""What torch is told before a cell is trained, and what the record tells of it."""

import re

import pytest
import torch

from adm_core.errors import AdmError
from adm_core.recipe import Optimizer, Recipe
from suites.worker.opening import pick_device, set_numerics
from suites.worker.provenance import environment
from tests.core.toy import trainer

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(autouse=True)
def restored():
    """Torch's switches as the next test expects them."""
    yield
    set_numerics(CPU, "fp32", "portable")


def recipe(precision):
    return Recipe(epochs=1, batch_size=16, optimizer=Optimizer(lr=0.1), precision=precision)


def switches():
    backends = torch.backends
    products = {backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision}
    chosen = torch.are_deterministic_algorithms_enabled(), backends.cudnn.deterministic, backends.cudnn.benchmark
    return products, chosen


@pytest.mark.parametrize(
    ("precision", "kernels", "products", "chosen"),
    [
        ("fp32", "portable", "ieee", (True, True, False)),
        ("bf16", "native", "ieee", (False, False, True)),
        ("tf32", "portable", "tf32", (True, True, False)),
    ],
)
def test_a_gpu_is_set_up_as_the_recipe_says_whatever_the_cell_before_left(precision, kernels, products, chosen):
    for before in [("tf32", "native"), ("fp32", "portable")]:
        set_numerics(GPU, *before)
        set_numerics(GPU, precision, kernels)
        assert switches() == ({products}, chosen)
        assert torch.is_deterministic_algorithms_warn_only_enabled()  # a method without such a kernel runs all the same


def test_a_cpu_takes_nothing_over_from_a_gpu():
    set_numerics(GPU, "tf32", "portable")
    assert pick_device("cpu") == CPU
    assert switches() == ({"ieee"}, (False, False, False))


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_cpu_has_neither_tf32_nor_fp16(precision):
    with pytest.raises(AdmError, match=f"precision {precision} needs a GPU, not cpu; use fp32 or bf16"):
        trainer(recipe(precision))


def test_the_record_tells_kernels_and_the_libraries_behind_them():
    told = environment(CPU, recipe("bf16"))
    assert (told["precision"], told["kernels"], told["deterministic"]) == ("bf16", "portable", None)
    assert told["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    for name in ("onednn", "mkl"):
        assert told[name] is None or re.fullmatch(r"\d+(\.\d+)+", told[name])
        assert (told[name] is not None) == getattr(torch.backends, {"onednn": "mkldnn"}.get(name, name)).is_available()
