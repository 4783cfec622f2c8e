"""Atomic writes, and strict readers of JSON and tensors."""
