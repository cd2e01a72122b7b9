"""The two embedded base models: small, really trained, in the architectures of Llama 3.2 and Gemma 3 text.

`python -m ldc.models.tiny` is the recipe that made them: tokenizer, mixture of texts, training, cards.
"""
