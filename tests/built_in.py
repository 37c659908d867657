"""The library's methods, whatever other tests of this process have registered."""

from adm_core import registry

BUILT_IN = [name for name in registry.names() if registry.get(name).__module__.startswith("adm_core.methods.")]
