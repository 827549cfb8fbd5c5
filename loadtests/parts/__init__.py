"""What `make bench PART=…` measures, a module each (`add_options` says how, `run` prints what), and what these
share."""
