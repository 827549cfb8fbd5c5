"""The entry point of `scrip` (pyproject.toml, service/__main__.py). It imports a command's module when the command is
called, so that help is quick. A command's sentence in COMMANDS is the first of its docstring."""

import gc
import re
from importlib import import_module

import click

COMMANDS = {
    "api": ("service.cli.process_commands", "Serve the HTTP API."),
    "demo": ("service.cli.demo", "Restore the demo data of `scrip run`."),
    "doctor": ("service.cli.process_commands", "Check Redis, Postgres and their data."),
    "keys": ("service.cli.admin", "Create, list and revoke API keys."),
    "migrate": ("service.cli.process_commands", "Update the database's tables to this version."),
    "partitions": ("service.cli.partitions", "List the partitions."),
    "quarantine": ("service.cli.quarantine_commands", "Events that an operator must decide about."),
    "rebuild": ("service.cli.rebuild", "Rebuild Redis completely from Postgres."),
    "reconcile": ("service.cli.reconcile", "Compare Redis with Postgres, while requests go on."),
    "recover": ("service.cli.recover", "Recover from a Postgres that is older than Redis."),
    "reports": ("service.cli.report_comparison", "Compare the figures of reports with the facts in Postgres."),
    "requests": ("service.cli.requests", "Find a refused request by its id."),
    "run": ("service.cli.process_commands", "Run the whole service on this machine, with demo data."),
    "status": ("service.cli.status", "Watch the whole service on one screen."),
    "worker": ("service.cli.process_commands", "Run a worker: it records in Postgres what Redis decides."),
    "workspaces": ("service.cli.admin", "Create, list, limit and suspend workspaces; sign people out."),
}
"""Each command's module, and the first sentence of its help for the list of commands."""


class Commands(click.Group):
    """All commands. It turns errors of settings and servers into Unusable."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        gc.disable()  # collections while modules are imported would take a tenth of the start
        try:
            return getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        finally:
            gc.enable()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. Raises Unusable; other errors pass unchanged."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:  # it quotes arguments: none of a URL's user and password
            message = re.sub(r"(?<=://)\S*(?=@)", "…", error.format_message())
            raise click.UsageError(message, error.ctx) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from service.cli.failures import explain
            from service.common.running_service import Unusable

            if (message := explain(error)) is None:
                raise
            raise Unusable(message) from error


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Example: scrip keys list demo"
)
@click.version_option(package_name="scrip", prog_name="scrip", message="%(prog)s %(version)s")
def main() -> None:
    """Scrip, a coupon service.

    Settings come from the environment or a .env file. Commands that need REDIS_URL or DATABASE_URL use the running
    `scrip run` of SCRIP_DATA_DIR if these are not set.

    Commands exit with 0 if they are done; with 1 if they are refused, or find something wrong; with 2 if their
    arguments, the settings or the servers can't be used. Errors go to stderr.
    """
