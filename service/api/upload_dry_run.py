"""The dry run of an upload: its result without adding codes."""

from collections.abc import AsyncIterator, Iterable, Sequence

from service.api.context import Context
from service.domain.code_requests import CHUNK, MAX_ERRORS, BadCode, CodeLine, Uploaded
from service.record.config.code_rows import count_known

MAX_BYTES = 4 << 20
"""Of a dry run: its codes stay in memory, to find duplicates in the upload."""


async def check_upload(
    context: Context, workspace: int, parsed: AsyncIterator[Iterable[CodeLine | BadCode]]
) -> Uploaded:
    """The result that an upload of these lines would have now."""
    result = Uploaded(added=0, duplicates=0, invalid=0, errors=[])
    seen: set[str] = set()
    batch: list[str] = []

    async def count_batch(codes: Sequence[str]) -> None:
        known = await count_known(context.pool, workspace, codes)
        result.duplicates += known
        result.added += len(codes) - known

    async for part in parsed:
        for line in part:
            if isinstance(line, BadCode):
                result.invalid += 1
                if len(result.errors) < MAX_ERRORS:
                    result.errors.append(line)
            elif line.code in seen:
                result.duplicates += 1
            else:
                seen.add(line.code)
                batch.append(line.code)
        if len(batch) >= CHUNK:
            await count_batch(batch)
            batch = []
    if batch:
        await count_batch(batch)
    return result
