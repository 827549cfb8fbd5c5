"""What client/generate.py writes: models, operations, refusals."""
