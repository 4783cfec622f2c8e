"""The figures of a results folder, from its files alone."""
