"""What went wrong, told with the file and line of the user's own code."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

_TRACEBACK_CHARACTERS = 16_000


class CallError(Exception):
    """An error whose kind is known. Its message is for whoever called the agent or the tool."""

    def __init__(
        self, kind: str, message: str, *, file: str | None = None, line: int | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.file = file
        self.line = line
        self.details = details


class Root:
    """The project's folder: tells its own files from those of packages installed below it."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        prefix = os.path.realpath(sys.prefix) + os.sep
        self._environment = prefix if prefix.startswith(self.path + os.sep) else None

    def relative(self, file: str | None) -> str | None:
        """The path relative to the root, or None for a file that is not the project's."""
        if not file or not os.path.isabs(file):
            return None
        file = os.path.realpath(file)
        if not file.startswith(self.path + os.sep) or f"{os.sep}site-packages{os.sep}" in file:
            return None
        if self._environment is not None and file.startswith(self._environment):
            return None
        return os.path.relpath(file, self.path)

    def place(self, error: BaseException) -> tuple[str | None, int | None]:
        """File and line of the last step in the project's code that led to the error."""
        for each in _causes(error):
            if isinstance(each, SyntaxError) and self.relative(each.filename):
                return self.relative(each.filename), each.lineno
            steps = [(self.relative(frame.f_code.co_filename), line) for frame, line in _frames(each.__traceback__)]
            own = [step for step in steps if step[0]]
            if own:
                return own[-1]
        return None, None

    def files(self, error: BaseException) -> Iterator[str]:
        """Every file of the project, relative to the root, that has a part in the error."""
        for each in _causes(error):
            names = [frame.f_code.co_filename for frame, _ in _frames(each.__traceback__)]
            if isinstance(each, SyntaxError) and each.filename:
                names.append(each.filename)
            yield from filter(None, map(self.relative, names))

    def failure(self, error: BaseException) -> dict[str, Any]:
        """The `Failure` of an agent or a tool that could not be loaded."""
        file, line = self._place(error)
        return {"message": describe(error), "file": file, "line": line}

    def ended(self, error: BaseException, kind: str = "exception") -> dict[str, Any]:
        """The `error` of a call that ended badly."""
        file, line = self._place(error)
        told: dict[str, Any] = {"kind": kind, "message": describe(error), "file": file, "line": line}
        if isinstance(error, CallError):
            told |= {"kind": error.kind, **error.details}
        told["traceback"] = "".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:]
        return told

    def _place(self, error: BaseException) -> tuple[str | None, int | None]:
        if isinstance(error, CallError) and error.file:
            return self.relative(error.file) or error.file, error.line
        return self.place(error)


def describe(error: BaseException) -> str:
    """For people: the text of our own errors, type and text of everybody else's."""
    if isinstance(error, CallError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion for a mistyped name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def causes_of_type(error: BaseException, kind: Any) -> Iterator[Any]:
    """Those of a type among the error and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            yield cause
        cause = cause.__cause__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(trace: TracebackType | None) -> Iterator[tuple[Any, int]]:
    return traceback.walk_tb(trace)
