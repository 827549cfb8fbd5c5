"""The API process: the Litestar application, its server, and the supervisor of several processes on one address."""
