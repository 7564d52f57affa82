"""What operators ask for across rooms: objects of the store that are to be ingested, and whether everything is in."""
