"""These run where there is a GPU and are skipped elsewhere: ``pytest tests/gpu``, without data sets or network."""

import os

import pytest

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; as workers of portable kernels do


@pytest.fixture(scope="session", autouse=True)
def gpu():
    """The device, with torch set as for the recipe's default precision and kernels."""
    import torch

    from suites.worker.opening import pick_device

    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    torch.set_num_threads(1)
    return pick_device("cuda")
