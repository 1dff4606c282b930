"""The worker: one event loop that reads the gateway's frames and runs what they ask for."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
from collections.abc import Coroutine
from typing import Any

from moongate_worker.agent_run import AgentRun
from moongate_worker.asks import Asks
from moongate_worker.calls import Call, Calls, Loop
from moongate_worker.client import ModelClient, model_error, openai_client
from moongate_worker.context import RunContext
from moongate_worker.failures import CallError, Root
from moongate_worker.frames import Wire
from moongate_worker.load import Loader
from moongate_worker.nested import use_runner
from moongate_worker.object_run import ObjectRun
from moongate_worker.request import RunRequest
from moongate_worker.run_config import RunConfigs
from moongate_worker.sdk import import_sdk, use_client
from moongate_worker.tools import FunctionCall, ToolCall, make_tool


def serve(fd: int, settings: dict[str, Any]) -> None:
    """Serve the gateway at the socket `fd` until it hangs up."""
    loop = Loop()
    asyncio.set_event_loop(loop)
    served = loop.create_task(Worker(settings).serve(fd))
    served.add_done_callback(lambda _: loop.stop())
    while not served.done():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            # User code raised it in a task of its own; asyncio has kept it for whoever awaits that task.
            continue
    served.result()


class Worker:
    """The state of a worker, and what each kind of frame does to it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._root = Root(settings["root"])
        self._tracing = bool(settings.get("tracing"))
        self._agents: dict[str, AgentRun | ObjectRun] = {}
        self._tools: dict[str, FunctionCall | ToolCall] = {}
        self._openai: Any = None
        if self._root.path not in sys.path:
            sys.path.append(self._root.path)
        self._sdk = import_sdk(self._root.path)
        self._loader = Loader(self._root, self._sdk)

    async def serve(self, fd: int) -> None:
        """Say that the worker is ready, then serve."""
        self._wire = await Wire.connect(fd, self._on_frame)
        self._asks = Asks(self._wire)
        self._calls = Calls(self._wire, self._root, self._asks.drop)
        if self._sdk.present:
            use_client(self._client(), tracing=self._tracing)
            self._configs = RunConfigs(ModelClient(self._asks), tracing=self._tracing)
            use_runner(self._asks, self._configs)
        python = ".".join(map(str, sys.version_info[:3]))
        self._wire.send(
            {
                "type": "ready",
                "python": python,
                "sdk": self._sdk.version,
                "sdk_error": self._sdk.error,
                "prefix": sys.prefix,
                "pid": os.getpid(),
            }
        )
        await self._wire.closed

    def _on_frame(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "chunk" | "done" | "failed" | "answer":
                self._asks.on_frame(frame)
            case "run":
                self._calls.start(frame["call"], functools.partial(self._run, RunRequest.from_frame(frame)))
            case "call":
                self._calls.start(frame["call"], functools.partial(self._call, frame["function"], frame["arguments"]))
            case "cancel":
                self._calls.cancel(frame["call"])
            case "ping":
                self._wire.send({"type": "pong", "n": frame["n"], "tasks": self._calls.alive})
            case "load":
                self._loading = asyncio.ensure_future(self._load(frame["agents"], frame["tools"]))
            case unknown:
                print(f"moongate: the worker does not know frames of type `{unknown}`", file=sys.stderr)

    async def _load(self, agents: list[dict[str, str]], tools: list[str]) -> None:
        loaded_agents: dict[str, Any] = {}
        for entry in agents:
            name = entry["name"]
            try:
                self._agents[name] = await self._build(entry["target"])
                loaded_agents[name] = None
            except (Exception, asyncio.CancelledError) as error:
                loaded_agents[name] = self._failed(error)
        loaded_tools: dict[str, Any] = {}
        for target in tools:
            try:
                loaded_tools[target] = self._tool(target).definition
            except (Exception, asyncio.CancelledError) as error:
                loaded_tools[target] = {"failure": self._failed(error)}
        # What is loaded stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        self._wire.send(
            {"type": "loaded", "agents": loaded_agents, "tools": loaded_tools, "files": self._loader.files()}
        )

    def _failed(self, error: BaseException) -> dict[str, Any]:
        self._loader.note_files(error)
        return self._root.failure(error)

    async def _build(self, target: str) -> AgentRun | ObjectRun:
        agent = await self._loader.build(target)
        if self._loader.is_sdk_agent(agent):
            return AgentRun(agent, self._wire, self._asks, self._configs)
        return ObjectRun(agent, self._wire)

    def _tool(self, target: str) -> FunctionCall | ToolCall:
        if target not in self._tools:
            self._tools[target] = make_tool(target, self._loader.resolve(target), self._sdk)
        return self._tools[target]

    async def _run(self, request: RunRequest, call: Call) -> dict[str, Any]:
        call.request = request
        agent = self._agents.get(request.agent)
        if agent is None:
            raise CallError("load", f"there is no agent `{request.agent}` in this worker")
        context = RunContext(call, request, self._asks, self._client)
        return await _model_errors_told(agent.run(call, request, context))

    async def _call(self, target: str, arguments: Any, call: Call) -> dict[str, Any]:
        tool = self._tools.get(target)
        if tool is None:
            tool = await asyncio.to_thread(self._tool, target)
        return await _model_errors_told(tool.call(arguments))

    def _client(self) -> Any:
        if self._openai is None:
            self._openai = openai_client(self._asks)
        return self._openai


async def _model_errors_told(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Let an error that comes from a failed model call end the call as that."""
    try:
        return await work
    except Exception as error:
        told = model_error(error)
        if told is None:
            raise
        raise told from error
