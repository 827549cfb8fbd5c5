"""Facts: written once, and read back."""
