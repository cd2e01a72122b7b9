"""Domains: named text with train, validation and test splits by source document."""
