"""The embedded default: a synthetic world and the small GPT-2 that knows it."""
