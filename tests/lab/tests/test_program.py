"""The program of the laboratory."""

import importlib

import pytest

from tests.lab import __main__ as lab


@pytest.mark.parametrize("part", lab.PARTS)
def test_each_part_can_run(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part has its modules, which get its options; one that finds something wrong makes the whole fail."""
    called: list[list[str]] = []

    def main() -> int:
        called.append(lab.sys.argv[1:])
        return len(called) == len(lab.PARTS[part].modules)

    for module in lab.PARTS[part].modules:
        monkeypatch.setattr(importlib.import_module(f"tests.lab.{module}"), "main", main)
    monkeypatch.setattr(lab.sys, "argv", ["lab", part, "--rounds", "1"])
    assert lab.main() == 1
    assert called == [["--rounds", "1"]] * len(lab.PARTS[part].modules)


def test_an_unknown_part(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a part, or with one that there isn't, it lists what there is."""
    monkeypatch.setattr(lab.sys, "argv", ["lab", "none"])
    assert lab.main() == 2
    assert capsys.readouterr().out.count("\n  ") == len(lab.PARTS)
