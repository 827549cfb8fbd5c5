"""Wire formats: one module for each thing that Redis or the outbox holds."""
