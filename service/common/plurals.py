"""Numbers with their nouns, in texts."""


def count_noun(count: int, noun: str) -> str:
    """`1 code`, `2 codes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
