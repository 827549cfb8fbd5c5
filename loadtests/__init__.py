"""Load and measurements, for operators."""
