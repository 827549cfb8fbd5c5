"""Comparing Redis with the record while traffic goes on."""
