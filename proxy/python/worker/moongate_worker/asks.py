"""Questions to the gateway, and the answers that find their way back to whoever asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from moongate_worker.calls import Call
from moongate_worker.failures import CallError
from moongate_worker.frames import Wire, to_json

_RUN_ENDED = {"type": "failed", "status": 499, "error": {"message": "the run has ended", "type": "server_error"}}


class ModelFailed(Exception):
    """The gateway could not get an answer of the model."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(error.get("message") or f"the model call failed with status {status}")
        self.status = status
        self.error = error


class ModelAnswer:
    """The chunks of one model call, as the JSON text that the model's server sent."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close
        self._chunks: deque[str] = deque()
        self._outcome: Exception | None = None
        self._arrived: asyncio.Future[None] | None = None

    def __aiter__(self) -> ModelAnswer:
        return self

    async def __anext__(self) -> str:
        while not self._chunks:
            if self._outcome is not None:
                raise self._outcome
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        return self._chunks.popleft()

    async def started(self) -> None:
        """Wait for the first chunk, so that a failure before it can be told as an HTTP status."""
        with contextlib.suppress(StopAsyncIteration):
            self._chunks.appendleft(await self.__anext__())

    def close(self) -> None:
        """Say that no more chunks are wanted."""
        if self._outcome is None:
            self._outcome = StopAsyncIteration()
            self._on_close()

    def on_frame(self, frame: dict[str, Any]) -> bool:
        """Take one frame; says whether it was the last."""
        if frame["type"] == "chunk":
            self._chunks.append(frame["data"])
        elif self._outcome is None:
            self._outcome = (
                ModelFailed(frame["status"], frame["error"]) if frame["type"] == "failed" else StopAsyncIteration()
            )
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
        return self._outcome is not None


class Asks:
    """All questions that are not answered yet."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._last = 0
        self._waiting: dict[int, Callable[[dict[str, Any]], bool]] = {}

    async def question(self, call: Call, what: str, **fields: Any) -> dict[str, Any]:
        """Ask, and wait for the one answer."""
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        rest = to_json({"what": what, **fields})
        number = self._send(call, rest, lambda frame: _settle(answer, frame))
        try:
            return await answer
        except asyncio.CancelledError:
            self._forget(call, number)
            raise

    def model(self, call: Call, body: bytes) -> ModelAnswer:
        """Send a chat completions request body, which is spliced into the frame as it is."""
        answer = ModelAnswer(lambda: self._forget(call, number))
        number = self._send(call, b'{"what":"model","body":%b}' % body, answer.on_frame)
        return answer

    def drop(self, call: Call) -> None:
        """Fail what an ended call still asks; the gateway knows that it has ended."""
        for number in call.asks:
            take = self._waiting.pop(number, None)
            if take is not None:
                take(_RUN_ENDED)
        call.asks.clear()

    def on_frame(self, frame: dict[str, Any]) -> None:
        """Take a frame of the gateway. One that answers a forgotten question is dropped."""
        number = frame["ask"]
        take = self._waiting.get(number)
        if take is not None and take(frame):
            del self._waiting[number]

    def _send(self, call: Call, rest: bytes, take: Callable[[dict[str, Any]], bool]) -> int:
        if call.ended:
            raise CallError("exception", "the run has ended: its models and tools cannot be used any more")
        if asyncio.get_running_loop() is not self._loop:
            raise CallError(
                "exception",
                "models and tools of the gateway can be used only on the worker's own event loop; make the function "
                "`async`, or run an agent with `Runner.run_sync`",
            )
        self._last += 1
        self._wire.send_bytes(b'{"type":"ask","call":%d,"ask":%d,%b' % (call.number, self._last, rest[1:]))
        self._waiting[self._last] = take
        call.asks.add(self._last)
        return self._last

    def _forget(self, call: Call, number: int) -> None:
        if self._waiting.pop(number, None) is not None:
            self._wire.send({"type": "forget", "call": call.number, "ask": number})


def _settle(answer: asyncio.Future[dict[str, Any]], frame: dict[str, Any]) -> bool:
    if not answer.done():
        if frame["type"] == "failed":
            answer.set_exception(ModelFailed(frame["status"], frame["error"]))
        else:
            answer.set_result(frame)
    return True
