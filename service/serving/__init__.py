"""The API process: the application, its server, and several processes on one address."""
