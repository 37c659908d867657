"""One torch thread for every test, as two busy pools on two cores slow each other many times over; portable kernels."""

import os

from adm_core.kernels import settle

os.environ.setdefault("OMP_NUM_THREADS", "1")
settle(os.environ, "portable")  # before torch is loaded, here and in the processes that tests start
