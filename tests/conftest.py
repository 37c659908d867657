"""One torch thread for every test: two busy pools on two cores slow each other many times over."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
