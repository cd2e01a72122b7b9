"""The version of the arithmetic, where planning can read it without importing torch."""

ENGINE_VERSION = 1
"""Part of every run's key: raised when the arithmetic of training, scoring or norms changes."""
