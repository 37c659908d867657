"""The distillation core: methods, losses, the distiller and the one training loop. Knows no task and no suite.

What a method's author needs is importable from here; nothing here loads torch.
"""

from adm_core.errors import AdmError, Unsupported
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched

__all__ = ["AdmError", "Losses", "Method", "MethodCard", "Needs", "Step", "Unsupported", "View", "register", "searched"]
