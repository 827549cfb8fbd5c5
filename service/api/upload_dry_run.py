"""What an upload would do, without doing it."""

from collections.abc import AsyncIterator, Iterable, Sequence

from service.api.context import Context
from service.domain.code_requests import CHUNK, MAX_ERRORS, BadCode, CodeLine, Uploaded
from service.record.config.code_rows import count_known

MAX_BYTES = 4 << 20
"""Of what is tried: its codes are kept in memory, to find those that are in it twice."""


async def tried(context: Context, workspace: int, parsed: AsyncIterator[Iterable[CodeLine | BadCode]]) -> Uploaded:
    """What uploading these lines would answer now."""
    told = Uploaded(added=0, duplicates=0, invalid=0, errors=[])
    seen: set[str] = set()
    some: list[str] = []

    async def look(codes: Sequence[str]) -> None:
        known = await count_known(context.pool, workspace, codes)
        told.duplicates += known
        told.added += len(codes) - known

    async for part in parsed:
        for line in part:
            if isinstance(line, BadCode):
                told.invalid += 1
                if len(told.errors) < MAX_ERRORS:
                    told.errors.append(line)
            elif line.code in seen:
                told.duplicates += 1
            else:
                seen.add(line.code)
                some.append(line.code)
        if len(some) >= CHUNK:
            await look(some)
            some = []
    if some:
        await look(some)
    return told
