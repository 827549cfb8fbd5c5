"""Hot requests, answered inside uvicorn's protocol."""
