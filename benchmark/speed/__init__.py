"""How fast the editors are: the engine against the same work done one by one, at equal numbers."""
