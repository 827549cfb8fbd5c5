"""The console and the checkout: templates and static files."""
