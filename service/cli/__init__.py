"""The commands of `scrip`."""
