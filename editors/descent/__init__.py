"""Editors that optimise the variables of an edit by gradient descent."""
