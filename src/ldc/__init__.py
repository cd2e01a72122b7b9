"""Layer-Domain Control."""
