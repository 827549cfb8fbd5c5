"""What `make bench PART=…` measures, a module each: `add_options` says how, `run` does it and prints."""
