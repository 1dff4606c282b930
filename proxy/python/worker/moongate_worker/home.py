"""The worker's event loop as code on other threads reaches it: work done there belongs to the thread's call."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any, TypeVar

from moongate_worker.calls import Loop, current_call
from moongate_worker.failures import CallError

T = TypeVar("T")


class Home:
    """The loop that it was made on."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        self._loop = loop

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work on the worker's loop, whichever loop waits for it."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(self._submit(work))

    def run_sync(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work on the worker's loop, and block this thread, which must be another, until it is done."""
        with self._loop.threads.lent():
            return self._submit(work).result()

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(_as_part_of_its_call(work), self._loop)


async def _as_part_of_its_call(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    try:
        call = current_call()
        if call.ended:
            raise CallError("exception", "the run has ended: no other can be started in it any more")
        call.tasks.add(task)
        task.add_done_callback(call.tasks.discard)
    except CallError:
        work.close()
        raise
    return await work
