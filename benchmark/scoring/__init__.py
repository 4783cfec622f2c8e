"""Probes, predictions, metrics and answer matching."""
