"""Runs on disk: written completely, with the marker last, and found by key."""
