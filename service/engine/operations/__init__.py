"""Hot operations: prepare a script's arguments, render its reply."""
