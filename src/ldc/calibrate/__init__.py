"""The map held against truths known beforehand: blocks damaged or taught, and how often each metric finds them."""
