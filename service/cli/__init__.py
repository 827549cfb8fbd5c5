"""The commands of `scrip`, except `scrip replay`."""
