"""A run of any object that has an async `run` or `stream` method."""

from __future__ import annotations

import contextlib
from typing import Any

from moongate_worker.calls import Call
from moongate_worker.context import RunContext
from moongate_worker.failures import CallError
from moongate_worker.frames import Wire
from moongate_worker.load import is_async
from moongate_worker.request import RunRequest
from moongate_worker.values import to_content, type_name


class ObjectRun:
    """`stream(messages, context)` yields text; `run(messages, context)` returns the whole. `stream` is preferred."""

    def __init__(self, target: Any, wire: Wire) -> None:
        self._target = target
        self._wire = wire

    async def run(self, call: Call, request: RunRequest, context: RunContext) -> dict[str, Any]:
        """Run to the end, sending text as it comes."""
        streams = is_async(getattr(self._target, "stream", None))
        output = await (self._stream(call, request, context) if streams else self._whole(call, request, context))
        return {"output": output, "last_agent": request.agent}

    async def _stream(self, call: Call, request: RunRequest, context: RunContext) -> str:
        pieces = self._target.stream(request.messages, context)
        if hasattr(pieces, "__await__"):
            pieces = await pieces
        whole: list[str] = []
        async with contextlib.aclosing(pieces) if hasattr(pieces, "aclose") else contextlib.nullcontext():
            async for piece in pieces:
                if not isinstance(piece, str):
                    raise CallError(
                        "output", f"agent `{request.agent}` yielded a `{type_name(piece)}`; `stream` must yield text"
                    )
                if piece:
                    whole.append(piece)
                    await self._send(call, piece)
        return "".join(whole)

    async def _whole(self, call: Call, request: RunRequest, context: RunContext) -> str:
        output, _ = to_content(await self._target.run(request.messages, context), f"agent `{request.agent}`")
        if output:
            await self._send(call, output)
        return output

    async def _send(self, call: Call, text: str) -> None:
        self._wire.send({"type": "delta", "call": call.number, "content": text})
        await self._wire.drain()
