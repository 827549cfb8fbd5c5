"""What people look at: the pages, their sign-in, and the data that only they request."""
