"""The engine: a bank of runs over one frozen model. The only place where speed is bought with cleverness."""

ENGINE_VERSION = 1
"""Part of every run's key: raised when the arithmetic of training or scoring changes."""
