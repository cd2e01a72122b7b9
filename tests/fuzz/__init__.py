"""Wrong inputs of every kind, tried in this process under a watch."""
