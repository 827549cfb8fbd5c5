"""What a request asks for: prepare its script's arguments, render its reply."""
