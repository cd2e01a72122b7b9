"""Update norms of adapters and checkpoints made elsewhere, from their files alone. No model is built."""
