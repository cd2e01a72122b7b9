# %% [markdown]
# # A study in a notebook
#
# A tiny study of an embedded model, from the settings to a verdict. It needs no download. Two steps of training find
# nothing; raise `steps` and `seeds` for a study that can.

# %%
import ldc

settings = {
    "models": {"tiny-llama": "embedded"},
    "domains": {"python": "embedded", "math": "embedded"},
    "regimes": ["mlp", "attn", "all", "top3-mlp"],
    "seeds": [0],
    "training": {"steps": 2, "batch": 1, "accumulation": 1, "block_length": 64, "learning_rate": 2e-3},
    "evaluation": {"documents": 4, "characters": 200, "window": 128},
    "selection": {"measures": []},
}
results = ldc.run(settings, "out-notebook", threads=1)

# %% [markdown]
# Held-out loss in bits per byte, lower is better. PT is the model before training.

# %%
print(results.validation("tiny-llama").round(3))

# %% [markdown]
# S_block, the map: the sum of S over the projections of a layer's attention or MLP, at the last step of the `all` runs.

# %%
blocks = results.S_block
s_block = blocks[blocks.regime == "all"].groupby(["domain", "block", "layer"]).S_block.mean()
print(s_block.unstack("layer").round(3))

# %% [markdown]
# The same as a figure, and what may be said: one seed decides nothing.

# %%
figure = results.overview("tiny-llama")
print(results.claims[["sentence", "verdict", "why"]].head())
