"""`python -m service` is `scrip`."""

from service.cli import main

main(prog_name="scrip")
