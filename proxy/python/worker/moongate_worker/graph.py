"""Copies of an agent and of all agents it can reach, whose tools ask the gateway before they act."""

from __future__ import annotations

import asyncio
import copy
import json
import sys
import traceback
from collections import OrderedDict
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

from moongate_worker.asks import Asks
from moongate_worker.calls import Call, current_call
from moongate_worker.failures import CallError
from moongate_worker.threads import UserExit
from moongate_worker.values import tool_text

_KEPT_VARIANTS = 16

_MARK = "_moongate_asks_gateway"

_failed: ContextVar[list[bool] | None] = ContextVar("moongate_tool_failed", default=None)
"""Holds True once the tool that runs here has failed and its error was put in words for the model."""


class AgentGraph:
    """The agent of one configuration entry. The user's own objects are never changed."""

    def __init__(self, agent: Any, asks: Asks) -> None:
        self._agent = agent
        self._asks = asks
        self._variants: OrderedDict[str, Any] = OrderedDict()
        self.starting_agent([])

    def starting_agent(self, gateway_tools: list[dict[str, Any]]) -> Any:
        """The agent to start with, having the gateway's tools as well as its own."""
        key = json.dumps(gateway_tools) if gateway_tools else ""
        if key not in self._variants:
            self._variants[key] = _Copies(self._asks).start(self._agent, gateway_tools)
            if len(self._variants) > _KEPT_VARIANTS:
                self._variants.popitem(last=False)
        self._variants.move_to_end(key)
        return self._variants[key]


def asks_gateway(agent: Any) -> bool:
    """Whether an agent is a copy already."""
    return getattr(agent, _MARK, False)


def tool_failed(about: Any) -> str | None:
    """What the model reads of a tool that failed (a `tool_error_formatter`); `None` leaves the wording to the SDK.

    The SDK tells the model no more than that there was an error, from which it can learn nothing.
    """
    error = getattr(about, "error", None)
    _note_failure(about.tool_name, error)
    return None if error is None else f"The tool failed: {type(error).__name__}: {error}"


class _Copies:
    def __init__(self, asks: Asks, known: dict[int, tuple[Any, Any]] | None = None) -> None:
        self._asks = asks
        # Each original is kept beside its copy, so that its id stays its own.
        self._known = {} if known is None else known

    def start(self, agent: Any, gateway_tools: list[dict[str, Any]]) -> Any:
        copied = self.of(agent)
        own = {tool.name for tool in copied.tools}
        for definition in gateway_tools:
            name = definition["name"]
            if name in own:
                notice = f"moongate: agent `{agent.name}` has its own tool `{name}`; the gateway's is left out"
                print(notice, file=sys.stderr)
            else:
                copied.tools.append(self._gateway_tool(definition))
        return copied

    def of(self, agent: Any) -> Any:
        found = self._known.get(id(agent))
        if found is not None:
            return found[1]
        copied = agent.clone(tools=[self._own_tool(tool, agent) for tool in agent.tools], handoffs=[])
        setattr(copied, _MARK, True)
        self._wrap_mcp_tools(copied)
        self._known[id(agent)] = (agent, copied)
        copied.handoffs.extend(self._handoff(each) for each in agent.handoffs)
        return copied

    def _handoff(self, target: Any) -> Any:
        from agents import Handoff

        if not isinstance(target, Handoff):
            return self.of(target)
        invoke = target.on_invoke_handoff

        async def on_invoke_handoff(context: Any, arguments: str) -> Any:
            # A handoff may build its agent anew each time; such a copy is not kept.
            return _Copies(self._asks, dict(self._known)).of(await invoke(context, arguments))

        copied = copy.copy(target)
        copied.on_invoke_handoff = on_invoke_handoff
        agent = getattr(target, "_agent_ref", None)
        if agent is not None and agent() is not None:
            self.of(agent())
        return copied

    def _own_tool(self, tool: Any, agent: Any) -> Any:
        from agents import FunctionTool

        if not isinstance(tool, FunctionTool):
            raise CallError(
                "load",
                f"agent `{agent.name}` uses `{type(tool).__name__}`, which runs at OpenAI's Responses API; "
                "the gateway speaks chat completions, where only function tools work",
            )
        if getattr(tool.on_invoke_tool, _MARK, False):
            return tool
        copied = copy.copy(tool)
        invoke = copied.on_invoke_tool
        _note_failures(copied)

        async def on_invoke_tool(context: Any, arguments: str) -> Any:
            call = current_call()
            name, number = context.tool_name, context.tool_call_id
            decision = await self._asks.question(call, "before_tool", name=name, arguments=arguments, id=number)
            if "content" in decision:
                return decision["content"]
            accepted = decision["arguments"]
            failed: list[bool] = []
            token = _failed.set(failed)
            try:
                result = await _within(call, invoke(context, json.dumps(accepted)))
            except _TimedOut as error:
                failed.append(True)
                result = str(error)
            except (SystemExit, KeyboardInterrupt) as error:
                raise UserExit(error) from error
            finally:
                _failed.reset(token)
            if call.request is None or not call.request.review:
                return result
            content = tool_text(result)
            review = await self._asks.question(
                call, "after_tool", name=name, arguments=accepted, content=content, is_error=bool(failed), id=number
            )
            return result if review["content"] == content else review["content"]

        setattr(on_invoke_tool, _MARK, True)
        copied.on_invoke_tool = on_invoke_tool
        return copied

    def _wrap_mcp_tools(self, copied: Any) -> None:
        """The SDK makes tools of the agent's MCP servers anew at each turn."""
        list_tools = copied.get_mcp_tools

        async def get_mcp_tools(context: Any) -> list[Any]:
            return [self._own_tool(tool, copied) for tool in await list_tools(context)]

        copied.get_mcp_tools = get_mcp_tools

    def _gateway_tool(self, definition: dict[str, Any]) -> Any:
        from agents import FunctionTool

        async def on_invoke_tool(context: Any, arguments: str) -> str:
            answer = await self._asks.question(
                current_call(), "tool", name=context.tool_name, arguments=arguments, id=context.tool_call_id
            )
            content: str = answer["content"]
            return content

        setattr(on_invoke_tool, _MARK, True)
        return FunctionTool(
            name=definition["name"],
            description=definition.get("description") or "",
            params_json_schema=definition.get("parameters") or {"type": "object", "properties": {}},
            on_invoke_tool=on_invoke_tool,
            strict_json_schema=False,
        )


class _TimedOut(Exception):
    """A tool took longer than it may. The message is what the model reads."""


async def _within(call: Call, invoked: Awaitable[Any]) -> Any:
    """What the tool returns, within the time that the gateway gives the tools of this run."""
    limit = None if call.request is None else call.request.tool_timeout
    task = asyncio.ensure_future(invoked)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        return task.result()
    task.cancel()
    # Its thread, where it has one, is asked to end; one that resists is found when the run ends.
    asyncio.get_running_loop().call_soon(call.interrupt_abandoned)
    raise _TimedOut(f"timed out after {limit:g} s")


def _note_failures(tool: Any) -> None:
    """Notice failures that the tool's own `failure_error_function` words; `tool_failed` sees the others."""
    word = getattr(tool, "_failure_error_function", None)
    if word is None:
        return

    def noted(context: Any, error: Exception) -> Any:
        _note_failure(tool.name, error)
        return word(context, error)

    tool._failure_error_function = noted


def _note_failure(tool_name: str, error: BaseException | None) -> None:
    """The model reads what the SDK makes of an error, which may be nothing of it: the log has it all."""
    failed = _failed.get()
    if failed is not None:
        failed.append(True)
    if error is not None:
        told = "".join(traceback.format_exception(error))
        print(f"moongate: the tool `{tool_name}` failed, and the model was told:\n{told}", file=sys.stderr, end="")
