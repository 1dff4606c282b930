"""A run of an agent of the SDK: the gateway's request in, deltas and the final output out."""

from __future__ import annotations

import asyncio
from typing import Any

from moongate_worker.asks import Asks
from moongate_worker.calls import Call
from moongate_worker.context import RunContext
from moongate_worker.failures import CallError
from moongate_worker.frames import Wire
from moongate_worker.graph import AgentGraph
from moongate_worker.messages import to_input_items
from moongate_worker.request import RunRequest
from moongate_worker.run_config import RunConfigs
from moongate_worker.values import to_content

_DELTAS = {
    "response.output_text.delta": "content",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.refusal.delta": "refusal",
}


class AgentRun:
    """Runs one agent of the SDK, any number of times at once."""

    def __init__(self, agent: Any, wire: Wire, asks: Asks, configs: RunConfigs) -> None:
        self._graph = AgentGraph(agent, asks)
        self._wire = wire
        self._configs = configs

    async def run(self, call: Call, request: RunRequest, context: RunContext) -> dict[str, Any]:
        """Run to the end. Raises CallError for the ends that the gateway tells apart."""
        import agents

        agent = self._graph.starting_agent(request.tools)
        items: Any = to_input_items(request.messages, request.instructions)
        result = agents.Runner.run_streamed(
            agent, items, context=context, max_turns=request.max_turns, run_config=self._configs.current()
        )
        try:
            streamed = await self._stream(call, result)
            return self._ended(call, result, streamed)
        except Exception as error:
            if (refusal := _refusal(error)) is not None:
                return {"output": refusal, "last_agent": result.current_agent.name}
            told = _told(error)
            if told is error:
                raise
            raise told from error
        finally:
            await _settle(result)

    async def _stream(self, call: Call, result: Any) -> str:
        """Send what the models say as they say it; returns the text of the last model call."""
        wire, number = self._wire, call.number
        text: list[str] = []
        async for event in result.stream_events():
            if event.type != "raw_response_event":
                continue
            data = event.data
            kind = _DELTAS.get(data.type)
            if kind is None:
                if data.type == "response.created":
                    text.clear()
                continue
            if data.delta:
                if kind == "content":
                    text.append(data.delta)
                wire.send({"type": "delta", "call": number, kind: data.delta})
                await wire.drain()
        return "".join(text)

    def _ended(self, call: Call, result: Any, streamed: str) -> dict[str, Any]:
        if getattr(result, "interruptions", None):
            names = ", ".join(f"`{each.name}`" for each in result.interruptions)
            raise CallError(
                "exception", f"the run waits for somebody to approve {names}, which a request to the gateway cannot do"
            )
        last = result.new_items[-1] if result.new_items else None
        output = streamed
        if not streamed or getattr(last, "type", None) != "message_output_item":
            output, _ = to_content(result.final_output, f"agent `{result.last_agent.name}`")
            if output:
                self._wire.send({"type": "delta", "call": call.number, "content": output})
        return {"output": output, "last_agent": result.last_agent.name}


async def _settle(result: Any) -> None:
    """Leave nothing of a run behind, however it ended."""
    task = getattr(result, "run_loop_task", None)
    if task is None or task.done():
        return
    result.cancel()
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()


def _refusal(error: Exception) -> str | None:
    """What the model said when it refused. It was streamed, so the run has ended as it should."""
    return getattr(error, "refusal", None) if type(error).__name__ == "ModelRefusalError" else None


def _told(error: Exception) -> Exception:
    """The error as the gateway's contract names it; unknown ones stay what they are."""
    import agents

    if isinstance(error, agents.MaxTurnsExceeded):
        return CallError("max_turns", str(error))
    guardrail = getattr(getattr(error, "guardrail_result", None), "guardrail", None) or getattr(
        error, "guardrail", None
    )
    if guardrail is not None and "Tripwire" in type(error).__name__:
        side = "output" if "Output" in type(error).__name__ else "input"
        refused_what = "answer" if side == "output" else "request"
        return CallError("guardrail", f"the {side} guardrail `{guardrail.get_name()}` refused this {refused_what}")
    return error
