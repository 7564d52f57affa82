"""Values that pass between packages; nothing here does any I/O."""
