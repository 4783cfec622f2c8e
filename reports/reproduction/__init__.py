"""Measured numbers beside the published ones."""
