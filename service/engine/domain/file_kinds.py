"""Recognize files that are no text by first bytes or media type, so that uploads and decoding.py say what to do."""

BEGIN_BYTES = 8
"""How many first bytes a caller passes: at least as many as the longest of _BEGINS."""
UTF_16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
"""Byte order marks, and Python's names of the encodings."""
_AS_CSV = "save it as CSV in UTF-8"
_WORKBOOK, _OLD_WORKBOOK, _GZIP = "an Excel workbook or a ZIP archive", "an old Excel workbook", "compressed with gzip"
_BEGINS = {
    b"PK\x03\x04": (_WORKBOOK, _AS_CSV),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": (_OLD_WORKBOOK, _AS_CSV),
    b"\x1f\x8b": (_GZIP, "decompress it"),
    **dict.fromkeys(UTF_16, ("in UTF-16", _AS_CSV)),
}
_REMEDIES = {
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": _AS_CSV,
    "application/vnd.oasis.opendocument.spreadsheet": _AS_CSV,
    "application/vnd.ms-excel": _AS_CSV,
    **dict.fromkeys(("application/gzip", "application/x-gzip", "application/zip"), "decompress it"),
}


def name_kind(begin: bytes) -> str | None:
    """What a file is that begins so, and isn't text in UTF-8; else None."""
    found = _find(begin)
    return found and found[0]


def explain_kind(begin: bytes) -> str | None:
    """As name_kind, as the reason of a refusal, with what to do."""
    found = _find(begin)
    return found and f"can't be read: the file is {found[0]}; {found[1]}"


def find_remedy(media_type: str) -> str | None:
    """What to do with a file of this media type before it is sent as text/csv; None for others."""
    return _REMEDIES.get(media_type)


def _find(begin: bytes) -> tuple[str, str] | None:
    return next((kind for start, kind in _BEGINS.items() if begin.startswith(start)), None)
