"""scikit-learn's samples are the same, read from its files or asked of it."""

import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

from tasks.datasets.sample_files import digits, photographs


def test_photographs_and_digits_are_scikit_learns():
    assert np.array_equal(photographs(), np.stack(load_sample_images().images))
    theirs, (ink, classes) = load_digits(), digits()
    assert np.array_equal(ink * 16, theirs.images) and np.array_equal(classes, theirs.target)


def test_reading_them_does_not_import_scikit_learn():
    use = "from tasks.datasets.sample_files import *; photographs(); digits()"
    code = f"import sys; {use}; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
