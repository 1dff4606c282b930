"""What an agent knows about the run that it serves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moongate_worker.asks import Asks
from moongate_worker.calls import Call
from moongate_worker.request import RunRequest


class ToolFailed(Exception):
    """A tool of the gateway answered with an error. The message is what a model would read."""


class RunContext:
    """Handed to an object's `run` and `stream`, and to the SDK as the context of its run."""

    def __init__(self, call: Call, request: RunRequest, asks: Asks, client: Callable[[], Any]) -> None:
        self.model: str = request.model
        """The model of the agent's configuration entry."""
        self.messages: list[dict[str, Any]] = request.messages
        """The conversation, as chat completions messages."""
        self.tools: list[dict[str, Any]] = request.tools
        """The gateway's tools that the configuration entry names: name, description, parameters."""
        self.instructions: str | None = request.instructions
        facts = request.context
        self.run: str | None = facts.get("run")
        self.agent: str | None = facts.get("agent")
        self.key: str | None = facts.get("key")
        self.user: str | None = facts.get("user")
        self.session: str | None = facts.get("session")
        self._call = call
        self._asks = asks
        self._client = client
        self._tool_calls = 0

    @property
    def client(self) -> Any:
        """An `openai.AsyncOpenAI` whose chat completions go through the gateway."""
        return self._client()

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> str:
        """Call a tool of the gateway, and return its result as text."""
        self._tool_calls += 1
        answer = await self._asks.question(
            self._call,
            "tool",
            name=name,
            arguments=json.dumps(arguments or {}, allow_nan=False),
            id=f"call_{self._call.number}_{self._tool_calls}",
        )
        content: str = answer["content"]
        if answer.get("is_error"):
            raise ToolFailed(content)
        return content
