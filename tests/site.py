"""Stages the documents for the site: `make docs` runs it, then Zensical builds zensical.toml. Files that documents link
to come with them, and what programs read: the OpenAPI document, its requests as a `.http` file, `llms.txt`."""

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.harness.trees import ROOT
from tests.reference import read_openapi, render_http_file

_link = re.compile(r"\]\(([^)\s#]+)[^)\s]*\)")
_SECTIONS = {"Start", "How-tos", "Reference", "Operating", "Why", "Contributing"}


def list_pages() -> Iterator[tuple[str, str, Path]]:
    """Section, title and path of each page of the site, in its order."""
    for entry in tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]:
        for section, pages in entry.items():
            for page in [entry] if isinstance(pages, str) else pages:
                for title, path in page.items():
                    yield section, title, ROOT / path


def render_llms() -> str:
    """`llms.txt` (llmstxt.org): each page with its sentence, as Markdown."""
    lines = ["# Scrip\n\n> Coupon redemption for flash sales: decided once in Redis, recorded once in Postgres.\n"]
    last = ""
    for section, title, path in list_pages():
        if section != last and section in _SECTIONS:
            lines.append(f"\n## {section}\n\n")
        last = section
        if section in _SECTIONS:
            text = path.read_text("utf-8").partition("\n\n")[2].partition("\n\n")[0]
            sentence = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", " ".join(text.split()))
            lines.append(f"- [{title}]({path.relative_to(ROOT)}): {sentence}\n")
    lines.append("\n## For programs\n\n- [OpenAPI document](openapi.json)\n- [Requests for editors](scrip.http)\n")
    return "".join(lines)


def _list_files() -> Iterator[Path]:
    """The documents, and the files of the tree that they link to."""
    documents = {ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}
    documents.add(ROOT / "client" / "README.md")
    documents |= {path for folder in ("docs", "examples") for path in (ROOT / folder).rglob("*") if path.is_file()}
    yield from documents
    for document in documents:
        for link in _link.findall(document.read_text("utf-8")) if document.suffix == ".md" else ():
            target = (document.parent / link).resolve()
            if "://" not in link and target.exists():
                yield from [target] if target.is_file() else filter(Path.is_file, target.rglob("*"))


def stage(folder: Path) -> None:
    """Write everything that the site has into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in _list_files():
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (folder / "openapi.json").write_text(json.dumps(read_openapi(), ensure_ascii=False), "utf-8")
    (folder / "scrip.http").write_text(render_http_file(), "utf-8")
    (folder / "llms.txt").write_text(render_llms(), "utf-8")


if __name__ == "__main__":
    stage(ROOT / "build" / "documents")
