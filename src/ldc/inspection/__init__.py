"""Where adapters and checkpoints made elsewhere were written, from their files alone: no model is built."""
