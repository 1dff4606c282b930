"""The Agents SDK of the project's environment: found, imported, and made to share its package name."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from typing import Any

from moongate_worker.failures import describe

DEFAULT_MODEL = "moongate-default"
"""The model name that stands for the model of the agent's configuration entry."""

_OLDEST = (0, 8)
"""From this version on, synchronous tools run on threads. Before, one that blocks would block the worker."""


@dataclass(frozen=True)
class Sdk:
    """The SDK as it was found when the worker started."""

    version: str | None
    error: str | None
    """Why it cannot be used, when `version` is None."""
    names: frozenset[str] = frozenset()
    """What `agents.<name>` means already: the SDK's modules and exports."""

    @property
    def present(self) -> bool:
        """Whether agents of the SDK can be run."""
        return self.version is not None


def import_sdk(root: str) -> Sdk:
    """Import the SDK, whose package is called `agents`, and let the root's folder `agents` live beside it."""
    own_folder = os.path.join(root, "agents")
    if not _is_installed(own_folder):
        return Sdk(None, f"the Agents SDK is not installed: install `openai-agents` into {sys.prefix}")
    # Agents without a model of their own use the one of the gateway's entry, not the SDK's default with its settings.
    os.environ["OPENAI_DEFAULT_MODEL"] = DEFAULT_MODEL
    try:
        import agents

        _ = agents.Runner
    except BaseException as error:
        return Sdk(None, f"the Agents SDK cannot be imported: {describe(error)}")
    names = frozenset(_module_names(agents.__path__) | set(vars(agents)))
    agents.__path__.append(own_folder)
    version = _version()
    if _numbers(version) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        why = f"the Agents SDK {version} is too old: install `openai-agents` {oldest} or newer into {sys.prefix}"
        return Sdk(None, why, names)
    return Sdk(version, None, names)


def use_client(client: Any, *, tracing: bool) -> None:
    """Make the gateway the SDK's only way to a model."""
    from agents import set_default_openai_api, set_default_openai_client, set_tracing_disabled

    set_default_openai_client(client, use_for_tracing=False)
    set_default_openai_api("chat_completions")
    set_tracing_disabled(not tracing)


def _is_installed(own_folder: str) -> bool:
    try:
        spec = importlib.util.find_spec("agents")
    except (ImportError, ValueError):
        return False
    return (
        spec is not None
        and spec.origin is not None
        and os.path.dirname(os.path.realpath(spec.origin)) != os.path.realpath(own_folder)
    )


def _module_names(folders: list[str]) -> set[str]:
    return {name.partition(".")[0] for folder in folders for name in os.listdir(folder)}


def _version() -> str:
    try:
        return importlib.metadata.version("openai-agents")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor. A version that is not of that form, such as one built from source, counts as new."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return _OLDEST if found is None else tuple(map(int, found.groups()))
