"""Configuration: what merchants set."""
