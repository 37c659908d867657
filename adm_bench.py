"""The command ``adm``: finds its own packages first, then hands over to ``suites.cli``."""

from __future__ import annotations

import codecs
import importlib.util
import io
import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent
_PACKAGES = ("adm_files", "adm_core", "tasks", "suites", "results")


_PLAINER = str.maketrans("─━│±·→↑↓Δ×≥−–—“”‘’", "--|~.>^vDx>---\"\"''")
"""What stands for the signs of our tables on terminals that lack them, each one character wide."""


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """The handler of characters that an encoding lacks: a sign like it, or a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end].translate(_PLAINER)
    return "".join(char if char.isascii() else "?" for char in lacking), error.end


codecs.register_error("plainer", _plainer)


def main() -> None:
    """Run the command line; bad input ends with one line on standard error and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plainer")
    _use_own_packages()
    from adm_core import kernels
    from adm_core.errors import AdmError
    from results.errors import RecordError
    from suites.cli import app

    try:
        kernels.settle(os.environ, "portable")  # for what is computed in this process; workers are told their recipe's
        app()
    except (AdmError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:
        print(f"error: {error.filename}: {error.strerror}; check whose it is and its permissions", file=sys.stderr)
        sys.exit(2)


def _use_own_packages() -> None:
    """Put this file's folder first on the path; stop where one of the packages would come from elsewhere."""
    sys.path[:] = [str(_ROOT), *(entry for entry in sys.path if entry != str(_ROOT))]
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or not Path(origin).resolve().is_relative_to(_ROOT):
            found = origin or "nowhere"
            print(f"error: package '{name}' would come from {found}, not from {_ROOT / name}", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
