"""Ranking and statistics: tables in, records out; no files, no console."""
