"""What a plug-in's author can run: the contract as checks, on tiny real networks."""

from adm_core.testing.checks import FORMS, Check, check_method

__all__ = ["FORMS", "Check", "check_method"]
