"""Where workers run: one file per executor behind the interface of ``base``."""
