"""Facts: what happened, written once and read back."""
