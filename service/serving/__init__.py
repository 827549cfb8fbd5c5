"""The API process: the Litestar application, its server, and several processes on one address."""
