"""Runs a study: the conductor decides what is next, and executors run banks in this process or in others."""
