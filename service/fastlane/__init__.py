"""The hot requests, answered inside uvicorn's protocol."""
