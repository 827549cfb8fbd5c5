"""The code blocks of documents, run as a reader runs them, and what they print."""

import os
import sys
from pathlib import Path

import pytest

from service.common.config import JwtIssuer, Settings
from tests.documents.pages import DOCUMENTS
from tests.harness.blocks import Block, is_run, is_tour, read_blocks, run_blocks, shows
from tests.harness.plugin import require
from tests.harness.service_fixture import Service, new_id
from tests.harness.serving import Served
from tests.harness.trees import ROOT

TOURS = {path: blocks for path in DOCUMENTS if is_tour(blocks := read_blocks(path.read_text("utf-8")))}
TOKENS = ROOT / "docs" / "how-to" / "user-tokens.md"


@pytest.fixture(scope="module")
def reader(service: Service) -> Service:
    """The workspace of a reader, who reads one page after the other."""
    return service.make_workspace(new_id("reader"), "test")


def _run(blocks: list[Block], service: Service, folder: Path, url: str) -> None:
    """Run these blocks for a workspace, at this address, and compare what they print with what the page shows."""
    places = {"http://127.0.0.1:8000": url, "demo_": f"{service.workspace}_"}

    def at_home(text: str) -> str:
        for old, new in places.items():
            text = text.replace(old, new)
        return text

    if any(block.language == "js" for block in blocks):
        require("node")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    python = ":".join(filter(None, [str(ROOT / "client"), os.environ.get("PYTHONPATH", "")]))
    environment = {"PATH": path, "PYTHONPATH": python} | service.urls
    run = [block._replace(text=at_home(block.text)) for block in blocks if is_run(block)]
    outputs = run_blocks(run, folder, environment)
    assert len(outputs) == len(run)
    for block, output in zip(run, outputs, strict=True):
        assert block.answer is None or shows(block.answer, output), (block.text, output)


@pytest.mark.parametrize("page", [page for page in TOURS if page != TOKENS], ids=lambda page: page.stem)
def test_a_page_does_what_it_shows(reader: Service, tmp_path: Path, page: Path) -> None:
    """The blocks of a page, in its order, print what the page shows, also after those of other pages."""
    _run(TOURS[page], reader, tmp_path, reader.run.url)


def test_users_tokens(reader: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service with the page's setting takes the token that the page makes."""
    monkeypatch.chdir(tmp_path)
    blocks = TOURS[TOKENS]
    (place,) = (place for place, block in enumerate(blocks) if block.language == "ini")
    _run(blocks[:place], reader, tmp_path, reader.run.url)
    (tmp_path / ".env").write_text(blocks[place].text.replace('"demo"', f'"{reader.workspace}"'))
    (issuer,) = Settings(_env_file=tmp_path / ".env").jwt_issuers
    assert isinstance(issuer, JwtIssuer)
    with Served(reader, tmp_path, hot=True, jwt_issuers=(issuer,)) as server:
        _run(blocks[place:], reader, tmp_path, server.url)
