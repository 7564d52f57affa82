"""Reading the object store."""
