"""Jobs that make or change many codes."""
