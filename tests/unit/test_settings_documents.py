"""Each setting is in `Settings`, `.env.example` and the table of docs/deploy.md, and no document names another."""

import re
from pathlib import Path

import pytest

from service.cli.process_commands import migrate
from service.common.config import Settings

ROOT = Path(__file__).parents[2]
VARIABLES = {str(field.validation_alias or f"SCRIP_{name.upper()}") for name, field in Settings.model_fields.items()}
OF_MIGRATE = {str(option.envvar) for option in migrate.params if option.envvar}
"""Variables of its options, which compose.yaml reads, too."""
OF_COMPOSE = OF_MIGRATE | {"POSTGRES_PASSWORD"}
OF_TESTS = {"SCRIP_TEST_PARTITIONS", "SCRIP_LOAD_TOKEN"}
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", ".github/**/*.md", "compose.yaml", ".env.example", "docs/**/*.md", "deploy/**/*")
    for path in ROOT.glob(pattern)
    if path.is_file()
)


def test_each_setting_is_in_the_example() -> None:
    """.env.example has a commented line for each setting, and for what compose.yaml needs."""
    assert _examples((ROOT / ".env.example").read_text("utf-8")) == VARIABLES | OF_COMPOSE


def test_each_setting_is_in_the_table() -> None:
    """docs/deploy.md has a row for each setting."""
    assert _rows((ROOT / "docs" / "deploy.md").read_text("utf-8")) == VARIABLES


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_setting_is_named(path: Path) -> None:
    """A document, manifest or compose file names settings that exist."""
    assert _named(path.read_text("utf-8")) <= VARIABLES | OF_MIGRATE | OF_TESTS


def test_the_checks_can_fail() -> None:
    """A line, a row and a name that are too many are found."""
    assert _examples("# Why\n#SCRIP_OTHER=1\n#REDIS_URL=a\n") == {"SCRIP_OTHER", "REDIS_URL"}
    assert _rows("## Settings\n\n| variable | default |\n|---|---|\n| `SCRIP_OTHER` | 1 |\n\n## Next\n| `A` | |\n") == {
        "SCRIP_OTHER"
    }
    assert _named("set `SCRIP_OTHER`, not scrip_api") == {"SCRIP_OTHER"}


def _examples(text: str) -> set[str]:
    return set(re.findall(r"^#([A-Z_]+)=", text, re.MULTILINE))


def _rows(text: str) -> set[str]:
    """The first cells of the table below the heading `Settings`."""
    section = text.partition("## Settings\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE))


def _named(text: str) -> set[str]:
    return set(re.findall(r"\bSCRIP_[A-Z_]+", text))
