"""`module:attribute` to an object of the project, with failures that say where to look."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from moongate_worker.failures import CallError, Root, describe, did_you_mean
from moongate_worker.sdk import Sdk
from moongate_worker.threads import Interrupted
from moongate_worker.values import type_name


class Loader:
    """Imports the project's modules."""

    def __init__(self, root: Root, sdk: Sdk) -> None:
        self._root = root
        self._sdk = sdk
        self._sources: set[str] = set()

    def resolve(self, target: str) -> Any:
        """Import the module of a target and take its attribute."""
        module_name, _, attribute = target.partition(":")
        if not module_name or not attribute:
            raise CallError("load", f"`{target}` is not of the form `module:attribute`")
        self._refuse_reserved(module_name)
        self._note_source(module_name)
        try:
            value = importlib.import_module(module_name)
        except (asyncio.CancelledError, Interrupted):
            raise
        except ImportError as error:
            raise self._import_error(module_name, error) from error
        except BaseException as error:
            raise CallError("load", f"importing `{module_name}` failed: {describe(error)}") from error
        module, path = value, module_name
        for name in attribute.split("."):
            if not hasattr(value, name):
                known = [each for each in dir(value) if not each.startswith("_")]
                raise CallError(
                    "load",
                    f"`{path}` has no `{name}`{did_you_mean(name, known)}",
                    file=getattr(module, "__file__", None),
                )
            value, path = getattr(value, name), f"{path}.{name}"
        return value

    async def build(self, target: str) -> Any:
        """The object that a target names, or the one that it builds when it can be called."""
        value = self.resolve(target)
        self._refuse_without_sdk(target, value)
        if self.is_agent(value):
            return value
        if not callable(value):
            raise CallError("load", f"`{target}` is a `{type_name(value)}`, {_EXPECTED}")
        try:
            built = value()
            if inspect.isawaitable(built):
                built = await built
        except (asyncio.CancelledError, Interrupted):
            raise
        except BaseException as error:
            raise CallError("load", f"`{target}` failed: {describe(error)}") from error
        self._refuse_without_sdk(target, built)
        if not self.is_agent(built):
            raise CallError("load", f"`{target}` returned a `{type_name(built)}`, {_EXPECTED}", **_place_of(value))
        return built

    def is_agent(self, value: Any) -> bool:
        """Whether a value can be run."""
        return not isinstance(value, type) and (
            self.is_sdk_agent(value) or any(is_async(getattr(value, name, None)) for name in ("run", "stream"))
        )

    def is_sdk_agent(self, value: Any) -> bool:
        """Whether a value is an agent of the SDK."""
        if not self._sdk.present:
            return False
        from agents import Agent

        return isinstance(value, Agent)

    def note_files(self, error: BaseException) -> None:
        """Count those that took part in a failed import, which Python forgets, among the imported files."""
        self._sources.update(os.path.join(self._root.path, name) for name in self._root.files(error))

    def files(self) -> list[str]:
        """Every file of the project that was imported, or whose import failed."""
        modules = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        own = {os.path.join(self._root.path, name) for name in map(self._root.relative, modules) if name}
        return sorted(own | self._sources)

    def _refuse_reserved(self, module_name: str) -> None:
        package, *rest = module_name.split(".")
        if package == "agents" and rest and rest[0] in self._sdk.names:
            raise CallError(
                "load",
                f"`{module_name}` cannot be loaded: the Agents SDK has a module of that name; rename the file",
                file=self._source(f"agents.{rest[0]}"),
            )

    def _refuse_without_sdk(self, target: str, value: Any) -> None:
        kind = getattr(sys.modules.get("agents"), "Agent", None)
        if not self._sdk.present and isinstance(kind, type) and isinstance(value, kind):
            raise CallError("load", f"`{target}` needs the Agents SDK: {self._sdk.error}")

    def _import_error(self, module_name: str, error: ImportError) -> CallError:
        missing = error.name or ""
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{missing}."):
            return CallError("load", f"there is no module `{module_name}` below the root{self._suggest(module_name)}")
        package = missing.partition(".")[0]
        if package == "agents" and not self._sdk.present:
            return CallError("load", f"`{module_name}` needs the Agents SDK: {self._sdk.error}")
        if isinstance(error, ModuleNotFoundError) and "." not in missing:
            return CallError("load", f"No module named '{missing}'; install it into {sys.prefix}")
        return CallError("load", f"importing `{module_name}` failed: {describe(error)}")

    def _suggest(self, module_name: str) -> str:
        *parents, name = module_name.split(".")
        try:
            entries = os.listdir(os.path.join(self._root.path, *parents))
        except OSError:
            return ""
        return did_you_mean(name, (entry.removesuffix(".py") for entry in entries if entry.endswith(".py")))

    def _source(self, module_name: str) -> str | None:
        base = os.path.join(self._root.path, *module_name.split("."))
        return next((path for path in (f"{base}.py", os.path.join(base, "__init__.py")) if os.path.isfile(path)), None)

    def _note_source(self, module_name: str) -> None:
        source = self._source(module_name)
        if source is not None:
            self._sources.add(source)


def is_async(function: Any) -> bool:
    """Whether calling gives something to await or to iterate asynchronously."""
    if function is None:
        return False
    function = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


_EXPECTED = "not an Agent of the Agents SDK, an object with an async `run` or `stream`, or a callable that returns one"


def _place_of(function: Callable[..., Any]) -> dict[str, Any]:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return {} if code is None else {"file": code.co_filename, "line": code.co_firstlineno}
