"""Background tasks of a worker beside recording: jobs, erasing, comparing, housekeeping."""
