"""What `make bench PART=…` measures, a module each (`add_options` says how, `run` prints it), and what they share."""
