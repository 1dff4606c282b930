"""The wire to the gateway: length-prefixed JSON frames over one stream socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

MAX_FRAME = 64 * 1024 * 1024
"""The largest frame, in bytes, that either side may send."""

_LENGTH = 4

_GATHERED = 64 * 1024
"""How many bytes are gathered before they are sent in the middle of a turn."""


class FrameTooLarge(ValueError):
    """A frame to be sent is larger than the gateway would read."""


def to_json(value: Any) -> bytes:
    """Encode strictly: no NaN, and lone surrogates are replaced, so that every reader accepts it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


class Wire(asyncio.Protocol):
    """Calls `on_frame` for each frame read; gathers the frames written in one turn of the loop."""

    @classmethod
    async def connect(cls, fd: int, on_frame: Callable[[dict[str, Any]], None]) -> Wire:
        """Take over the connected stream socket `fd`."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        wire = cls(loop, on_frame)
        await loop.create_connection(lambda: wire, sock=sock)
        return wire

    def __init__(self, loop: asyncio.AbstractEventLoop, on_frame: Callable[[dict[str, Any]], None]) -> None:
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._on_frame = on_frame
        self._received = bytearray()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._transport: asyncio.WriteTransport | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def send(self, frame: dict[str, Any]) -> None:
        """Queue one frame. It leaves at the end of this turn of the loop."""
        self.send_bytes(to_json(frame))

    def send_bytes(self, frame: bytes) -> None:
        """Queue one frame that is JSON already."""
        if len(frame) > MAX_FRAME:
            raise FrameTooLarge(f"{len(frame)} bytes are more than the {MAX_FRAME} that the gateway reads at once")
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(len(frame).to_bytes(_LENGTH, "big"))
        self._unsent.append(frame)
        self._unsent_bytes += len(frame)
        if self._unsent_bytes > _GATHERED:
            self._flush()

    async def drain(self) -> None:
        """Wait while the gateway reads more slowly than frames are sent."""
        if not self._writable.is_set():
            await self._writable.wait()

    def close(self) -> None:
        """Send what is queued, then hang up."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        if self._transport is not None and self._unsent:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
        self._unsent_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH:
            body = start + _LENGTH
            length = int.from_bytes(received[start:body], "big")
            if length > MAX_FRAME:
                raise ValueError(f"the gateway announced a frame of {length} bytes")
            if len(received) < body + length:
                break
            start = body + length
            self._on_frame(json.loads(received[body:start]))
        del received[:start]

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._writable.set()
        if not self.closed.done():
            self.closed.set_result(None)
