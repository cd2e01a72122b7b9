"""Turns a study into runs, their keys and the banks they share. Pure: it touches no torch, model or text."""
