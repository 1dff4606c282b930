"""Threads for synchronous user code: counted by their call, and ended from outside when the call ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

MAX_THREADS = 32
"""How many synchronous functions run at once, but for those that wait for the loop. More wait for a free thread."""

_STACK_BYTES = 4 * 1024 * 1024
"""Stacks count against the memory limit, so they are smaller than the usual 8 MiB."""


class UserExit(Exception):
    """User code raised SystemExit or KeyboardInterrupt: its call fails, and the worker goes on."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"the code raised {error!r}")


class Interrupted(BaseException):
    """Raised from outside in a thread whose result nobody waits for any more."""


class Job:
    """One synchronous function, waiting for a thread or running on it."""

    def __init__(
        self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop, on_end: Callable[[Job], None]
    ) -> None:
        self.future: asyncio.Future[Any] = loop.create_future()
        self._function = function
        self._loop = loop
        self._on_end = on_end
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        """Raise `Interrupted` in the function. It arrives when the function next executes Python code."""
        self.future.cancel()
        with self._lock:
            if self._thread is not None:
                self._interrupted = True
                _raise_in_thread(self._thread, Interrupted)

    def run(self) -> None:
        """Run on the current thread, and leave it clean for the next job."""
        result: Any = None
        error: BaseException | None = None
        try:
            if not self.future.cancelled():
                self._thread = threading.get_ident()
                result = self._function()
        except BaseException as raised:
            error = raised
        while True:
            try:
                self._leave(result, error)
                return
            except Interrupted:
                continue

    def _leave(self, result: Any, error: BaseException | None) -> None:
        with self._lock:
            self._thread = None
        if self._interrupted:
            _raise_in_thread(threading.get_ident(), None)
        # A closed loop means that the worker is going, and nobody waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if not self.future.done():
            if error is None:
                self.future.set_result(result)
            else:
                self.future.set_exception(_as_exception(error))
        self._on_end(self)


class Threads:
    """A pool of daemon threads that grows to its limit only while all of them are busy."""

    def __init__(self) -> None:
        threading.stack_size(_STACK_BYTES)
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._count = 0

    def start(self, job: Job) -> None:
        """Run a job as soon as a thread is free."""
        with self._changed:
            self._jobs.append(job)
            self._staff()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Let another thread take this one's place while it waits for what may need a thread itself."""
        with self._changed:
            self._count -= 1
            if self._jobs:
                self._staff()
        try:
            yield
        finally:
            with self._changed:
                self._count += 1

    def _staff(self) -> None:
        if self._idle >= len(self._jobs) or self._count >= MAX_THREADS:
            self._changed.notify()
            return
        self._count += 1
        threading.Thread(target=self._work, name="moongate-tool", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                job = self._jobs.popleft()
            job.run()


def _as_exception(error: BaseException) -> BaseException:
    """What an asyncio future may carry: neither StopIteration nor what would end the event loop."""
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return UserExit(error).with_traceback(error.__traceback__)
    if isinstance(error, StopIteration):
        return RuntimeError("the function raised StopIteration").with_traceback(error.__traceback__)
    return error


def _raise_in_thread(thread: int, error: type[BaseException] | None) -> None:
    """Let a thread raise an exception at its next step; None takes back one that has not arrived yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    )
