"""Runs inside runs: agents used as tools, and whatever user code runs itself, ask the gateway as well."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from moongate_worker.asks import Asks
from moongate_worker.graph import AgentGraph, asks_gateway
from moongate_worker.home import Home
from moongate_worker.run_config import RunConfigs

_KEPT_GRAPHS = 64


def use_runner(asks: Asks, configs: RunConfigs) -> None:
    """Let every `Runner` of the SDK run copies whose tools ask the gateway, with the gateway's models."""
    from agents import run

    if not hasattr(run, "set_default_agent_runner"):
        return  # An older SDK: only the agents of the configuration's own graphs ask.
    graphs = _Graphs(asks)
    home = Home()

    class AskingRunner(run.AgentRunner):
        """The SDK's own runner, for any agent and from any thread."""

        async def run(self, starting_agent: Any, input: Any, **options: Any) -> Any:
            return await home.run(self._run_at_home(starting_agent, input, options))

        def run_sync(self, starting_agent: Any, input: Any, **options: Any) -> Any:
            if _in_a_loop():
                # Refused by the SDK, which says why.
                return super().run_sync(starting_agent, input, **options)
            return home.run_sync(self._run_at_home(starting_agent, input, options))

        def run_streamed(self, starting_agent: Any, input: Any, **options: Any) -> Any:
            options["run_config"] = configs.completed(options.get("run_config"))
            return super().run_streamed(graphs.of(starting_agent), input, **options)

        async def _run_at_home(self, starting_agent: Any, input: Any, options: dict[str, Any]) -> Any:
            options["run_config"] = configs.completed(options.get("run_config"))
            return await super().run(graphs.of(starting_agent), input, **options)

    run.set_default_agent_runner(AskingRunner())


class _Graphs:
    """Copies of the agents that were run lately. Each original is kept beside its copy, so that its id stays its."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._kept: OrderedDict[int, tuple[Any, AgentGraph]] = OrderedDict()

    def of(self, agent: Any) -> Any:
        if asks_gateway(agent):
            return agent
        if id(agent) not in self._kept:
            self._kept[id(agent)] = (agent, AgentGraph(agent, self._asks))
            if len(self._kept) > _KEPT_GRAPHS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(id(agent))
        return self._kept[id(agent)][1].starting_agent([])


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
