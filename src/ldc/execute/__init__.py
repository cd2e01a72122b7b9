"""Doing the work: the conductor decides what is next, executors run banks in this process or others."""
