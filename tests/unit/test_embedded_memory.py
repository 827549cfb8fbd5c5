"""The embedded Valkey is bounded by half of the memory that it can have."""

import os
from pathlib import Path

import pytest

from service.server.embedded import valkey


def test_half_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is half of the container's memory, of both kinds of cgroups, or else of the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    newer, older = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    monkeypatch.setattr(valkey, "_CONTAINER_LIMITS", (newer, older))

    def limit() -> int:
        options = valkey.Valkey(tmp_path).child.argv
        return int(options[options.index("--maxmemory") + 1])

    assert limit() == machine // 2
    older.write_text("9223372036854771712\n")  # none
    assert limit() == machine // 2
    newer.write_text("max\n")
    assert limit() == machine // 2
    newer.write_text("1000000\n")
    assert limit() == 500_000
    newer.unlink()
    older.write_text("600000\n")
    assert limit() == 300_000
