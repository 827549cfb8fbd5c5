"""The only part of the engine that talks to Redis."""
