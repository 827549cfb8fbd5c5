"""`python -m service` is `scrip`."""

from service.cli.main import main

main(prog_name="scrip")
