"""``python -m suites.worker WORKDIR ...``: train the cell of a work folder, or those of several in lockstep."""

import sys

from suites.worker.entry import main
from suites.worker.stopping import heed_requests

if __name__ == "__main__":
    heed_requests()
    sys.exit(main())
