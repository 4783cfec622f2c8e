"""From a folder or hub id to a model: loading, structure, tokenizer."""
