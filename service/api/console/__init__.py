"""The pages, and what only they ask for."""
