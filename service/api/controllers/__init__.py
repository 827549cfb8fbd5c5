"""What merchants call."""
