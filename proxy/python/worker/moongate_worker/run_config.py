"""The configuration with which runs of the SDK find the gateway's models."""

from __future__ import annotations

import dataclasses
from typing import Any

from moongate_worker.calls import current_request
from moongate_worker.client import ModelClient
from moongate_worker.graph import tool_failed
from moongate_worker.sdk import DEFAULT_MODEL


class RunConfigs:
    """Made once for a worker, used by all of its runs."""

    def __init__(self, client: ModelClient, *, tracing: bool) -> None:
        self._models = _model_provider(client)
        self._configs = {parallel: self._make(tracing=tracing, parallel=parallel) for parallel in (True, False)}

    def current(self) -> Any:
        """The configuration of a run that has none of its own."""
        request = current_request()
        return self._configs[request is None or request.parallel_tool_calls]

    def completed(self, given: Any) -> Any:
        """What user code configured, with the gateway's models unless it names others."""
        if given is None:
            return self.current()
        if isinstance(given, dict):
            return {"model_provider": self._models, **given}
        if _is_default_provider(given.model_provider):
            return dataclasses.replace(given, model_provider=self._models)
        return given

    def _make(self, *, tracing: bool, parallel: bool) -> Any:
        from agents import RunConfig

        wanted = {
            "model_provider": self._models,
            "tracing_disabled": not tracing,
            "tool_error_formatter": tool_failed,
            "tool_execution": None if parallel else {"max_function_tool_concurrency": 1},
        }
        # Older versions of the SDK lack the last two.
        return RunConfig(**{name: value for name, value in wanted.items() if name in RunConfig.__dataclass_fields__})


def _model_provider(client: ModelClient) -> Any:
    from agents import Model, ModelProvider, OpenAIChatCompletionsModel

    class GatewayModels(ModelProvider):
        """Every name is the name of a model of the gateway, unchanged."""

        def get_model(self, model_name: str | None) -> Model:
            return OpenAIChatCompletionsModel(model_name or DEFAULT_MODEL, client)  # type: ignore[arg-type]

    return GatewayModels()


def _is_default_provider(provider: Any) -> bool:
    """Whether it is the one of an SDK's `RunConfig()`, which reads prefixes into the names of models."""
    from agents import MultiProvider

    return type(provider) is MultiProvider and provider.provider_map is None
