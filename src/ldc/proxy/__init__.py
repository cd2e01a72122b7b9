"""Is LoRA a fair proxy? Full fine-tuning and LoRA of several ranks on the same text, and whether their maps agree."""
