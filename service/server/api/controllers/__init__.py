"""The routes that merchants call."""
