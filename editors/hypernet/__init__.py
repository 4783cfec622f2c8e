"""Editors with a trained hypernetwork."""
