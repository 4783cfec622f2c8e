"""The model and its passes: packed batches, hooks, caches, greedy decoding."""
