"""Search of an editor's options on training or validation cases."""
