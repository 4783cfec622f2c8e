"""The embedded world: its data, its model, and the code that makes both."""
