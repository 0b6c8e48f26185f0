"""Frames over the answer to an ask: each is its length (u32, big-endian) and so many bytes.

Chunks of an answer are cut wherever the connection likes; frames are what was meant. A frame longer
than its bound is refused before it is taken in.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator

from tilth_ledger.errors import InvalidInput, Unavailable

SILENCE_SECONDS = 30.0

_LENGTH = struct.Struct(">I")


def framed(data: bytes) -> bytes:
    """One frame."""
    return _LENGTH.pack(len(data)) + data


async def frames(answer: AsyncGenerator[bytes, None], bounds: list[int]) -> AsyncIterator[bytes]:
    """The frames of an answer. `bounds`: of the first, second ..., and of all that follow.

    Raises InvalidInput for one that is too long or cut short, Unavailable when nothing comes.
    """
    buffer = bytearray()
    number = 0
    while (chunk := await _next(answer)) is not None:
        buffer += chunk
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            most = bounds[min(number, len(bounds) - 1)]
            if length > most:
                raise InvalidInput("answer's part is too long", found=length, expected=most)
            end = _LENGTH.size + length
            if len(buffer) < end:
                break
            frame = bytes(buffer[_LENGTH.size : end])
            del buffer[:end]
            number += 1
            yield frame
    if buffer:
        raise InvalidInput("answer is cut short", found=f"{len(buffer)} bytes of a part")


async def _next(answer: AsyncGenerator[bytes, None]) -> bytes | None:
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            return await anext(answer, None)
    except TimeoutError:
        raise Unavailable("the other node answers no more", found="30 s of silence") from None
