"""What the gateway asks a run to do, as its frame says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunRequest:
    """One run of one agent."""

    agent: str
    model: str
    messages: list[dict[str, Any]]
    max_turns: int | None
    tools: list[dict[str, Any]]
    """Definitions of the gateway's tools: name, description, parameters."""
    instructions: str | None
    settings: dict[str, Any]
    """Sampling fields of a chat completions body, used where the agent's code sets nothing."""
    review: bool
    """Whether the gateway wants to see the results of the agent's own tools."""
    parallel_tool_calls: bool
    tool_timeout: float | None
    """Seconds that one of the agent's own tools may take."""
    context: dict[str, Any]

    @classmethod
    def from_frame(cls, frame: dict[str, Any]) -> RunRequest:
        """Read a `run` frame."""
        return cls(
            agent=frame["agent"],
            model=frame["model"],
            messages=frame["messages"],
            max_turns=frame.get("max_turns"),
            tools=frame.get("tools") or [],
            instructions=frame.get("instructions"),
            settings=frame.get("settings") or {},
            review=frame.get("review", False),
            parallel_tool_calls=frame.get("parallel_tool_calls", True),
            tool_timeout=frame.get("tool_timeout"),
            context=frame.get("context") or {},
        )
