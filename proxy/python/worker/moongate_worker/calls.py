"""Runs and tool calls of the gateway: started, cancelled, ended exactly once, and counted while alive."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from moongate_worker.failures import CallError, Root
from moongate_worker.frames import Wire
from moongate_worker.request import RunRequest
from moongate_worker.threads import Job, Threads

INTERRUPT_EVERY = 0.05
"""Seconds between two attempts to end a thread."""

STUCK_AFTER = 1.0
"""Seconds after which a call that does not end is reported."""


class Call:
    """One run or tool call, from its frame to the end of its last thread."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.jobs: set[Job] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        """What its threads have started on the loop."""
        self.asks: set[int] = set()
        self.cancelled = False
        self.reaped = False
        self.ended = False
        self.request: RunRequest | None = None
        """What a run was asked to do; None for a tool call."""

    @property
    def alive(self) -> bool:
        """Whether anything of the call still runs."""
        return bool(self.jobs or self.tasks) or (self.task is not None and not self.task.done())


    def interrupt_abandoned(self) -> None:
        """Ask the threads to end whose results nobody waits for any more."""
        for job in list(self.jobs):
            if job.future.cancelled():
                job.interrupt()


_CANCELLED = {
    "kind": "cancelled",
    "message": "the gateway cancelled the call",
    "file": None,
    "line": None,
    "traceback": "",
}

_UNTOLD = {
    **_CANCELLED,
    "kind": "exception",
    "message": "the call failed, and telling how failed too: out of memory, maybe",
}

_current: ContextVar[Call | None] = ContextVar("moongate_call", default=None)


def current_call() -> Call:
    """The call that this code runs for."""
    call = _current.get()
    if call is None:
        raise CallError(
            "exception",
            "models and tools of the gateway can be used only while a run is going on, not while a module is imported",
        )
    return call


def current_request() -> RunRequest | None:
    """What the run that this code runs for was asked to do; None outside of a run."""
    call = _current.get()
    return None if call is None else call.request


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose default executor is a pool of threads that a cancelled call takes down with it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = Threads()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        call = _current.get()
        jobs: set[Job] = set() if call is None else call.jobs
        job = Job(functools.partial(func, *args), self, jobs.discard)
        jobs.add(job)
        self.threads.start(job)
        return job.future


class Calls:
    """All calls of this worker."""

    def __init__(self, wire: Wire, root: Root, on_end: Callable[[Call], None]) -> None:
        self._wire = wire
        self._root = root
        self._on_end = on_end
        self._calls: dict[int, Call] = {}
        self._reapers: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> int:
        """How many calls still run, on the loop or on threads."""
        return len(self._calls)

    def start(self, number: int, work: Callable[[Call], Awaitable[dict[str, Any]]]) -> None:
        """Begin a call. What `work` returns becomes its result."""
        call = Call(number)
        self._calls[number] = call
        call.task = asyncio.ensure_future(self._run(call, work))
        call.task.add_done_callback(lambda _: self._finished(call))

    def cancel(self, number: int) -> None:
        """End a call that nobody waits for any more."""
        call = self._calls.get(number)
        if call is None or call.cancelled:
            return
        call.cancelled = True
        if call.task is not None:
            call.task.cancel()
        self._start_reaper(call)

    async def _run(self, call: Call, work: Callable[[Call], Awaitable[dict[str, Any]]]) -> None:
        _current.set(call)
        try:
            self._end(call, result=await work(call))
        except BaseException as error:
            self._end(call, error=self._root.ended(error))

    def _end(self, call: Call, **outcome: Any) -> None:
        """Tell the gateway how the call ended, unless it knows."""
        if call.ended:
            return
        call.ended = True
        self._on_end(call)
        for task in call.tasks:
            task.cancel()
        if call.cancelled or not outcome:
            outcome = {"error": _CANCELLED if call.cancelled else _UNTOLD}
        try:
            self._wire.send({"type": "ended", "call": call.number, **outcome})
        except (TypeError, ValueError) as error:
            unsent = CallError("output", f"the result cannot be sent: {error}")
            self._wire.send({"type": "ended", "call": call.number, "error": self._root.ended(unsent)})

    def _finished(self, call: Call) -> None:
        # A task that is cancelled before its first step never reaches `_end`, nor does one whose error cannot be told.
        self._end(call)
        if call.alive:
            self._start_reaper(call)
        else:
            self._calls.pop(call.number, None)

    def _start_reaper(self, call: Call) -> None:
        if call.reaped:
            return
        call.reaped = True
        reaper = asyncio.ensure_future(self._reap(call))
        self._reapers.add(reaper)
        reaper.add_done_callback(self._reapers.discard)

    async def _reap(self, call: Call) -> None:
        """End the threads of a call, and report it when they resist."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STUCK_AFTER
        told = False
        while call.alive:
            for job in list(call.jobs):
                job.interrupt()
            if loop.time() >= deadline:
                if not told:
                    told = True
                    self._wire.send({"type": "stuck", "call": call.number})
                    self._end(call)
                deadline = loop.time() + STUCK_AFTER
                for task in (call.task, *call.tasks):
                    if task is not None:
                        task.cancel()
            await asyncio.sleep(INTERRUPT_EVERY)
        self._calls.pop(call.number, None)
