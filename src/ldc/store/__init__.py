"""Runs on disk: written whole, marker last, found again by key."""
