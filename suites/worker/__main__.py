"""``python -m suites.worker WORKDIR``: train the cell of a work folder."""

import sys

from suites.worker.entry import main

if __name__ == "__main__":
    sys.exit(main())
