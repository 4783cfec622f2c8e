"""The command `speed`: the engine timed and compared with a plain reference."""
