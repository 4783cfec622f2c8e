"""What a run needs before it starts: memory and disk, and whether they are there."""
