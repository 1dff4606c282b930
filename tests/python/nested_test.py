"""Runs inside runs, and tools of MCP servers: whatever an agent reaches asks the gateway too."""

from __future__ import annotations

import time
import unittest

from fake_gateway import DEFAULT_ANSWERS, Frame, Gateway, Outcome, SharedGatewayTest, say, use, whole

CODE = '''
    import asyncio
    from agents import Agent, RunConfig, Runner, function_tool
    from agents.mcp import MCPServer
    from mcp.types import CallToolResult, TextContent, Tool

    @function_tool
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    @function_tool
    async def waits() -> str:
        """Waits."""
        await asyncio.sleep(60)

    plain = Agent(name="Plain", tools=[add, waits])

    @function_tool
    async def ask_fresh(question: str) -> str:
        """Runs an agent made on the spot."""
        return (await Runner.run(Agent(name="Fresh", tools=[add]), question)).final_output

    @function_tool
    async def ask_named(question: str) -> str:
        """Runs an agent with a model of its own."""
        agent = Agent(name="Named", model="lmstudio/qwen3-4b")
        answers = [await Runner.run(agent, question, run_config=given) for given in (None, RunConfig(), {})]
        return " ".join(answer.final_output for answer in answers)

    @function_tool
    async def ask_streamed(question: str) -> str:
        """Streams another agent."""
        result = Runner.run_streamed(Agent(name="Streamed", model="lmstudio/qwen3-4b"), question)
        async for _ in result.stream_events():
            pass
        return result.final_output

    @function_tool
    def ask_sync(question: str) -> str:
        """Runs an agent from a thread."""
        return Runner.run_sync(plain, question).final_output

    @function_tool
    def ask_own_loop(question: str) -> str:
        """Runs an agent from a loop of the thread's own."""
        return asyncio.run(Runner.run(plain, question)).final_output

    @function_tool
    def stream_own_loop(question: str) -> str:
        """Streams an agent from a loop of the thread's own."""
        async def stream():
            return [event async for event in Runner.run_streamed(plain, question).stream_events()]
        return str(asyncio.run(stream()))

    @function_tool
    async def sync_on_loop(question: str) -> str:
        """Blocks the loop, which the SDK refuses."""
        return Runner.run_sync(plain, question).final_output

    sub = plain.as_tool("ask_plain", "Asks.")
    agent = Agent(name="A", tools=[sub, ask_fresh, ask_named, ask_streamed, ask_sync, ask_own_loop, stream_own_loop,
                                   sync_on_loop])

    class Server(MCPServer):
        name = "remote"

        async def connect(self):
            pass

        async def cleanup(self):
            pass

        async def list_tools(self, run_context=None, agent=None):
            return [Tool(name="search", description="Searches.", inputSchema={"type": "object", "properties": {}})]

        async def call_tool(self, tool_name, arguments, meta=None):
            return CallToolResult(content=[TextContent(type="text", text=f"found {arguments}")])

        async def list_prompts(self):
            pass

        async def get_prompt(self, name, arguments=None):
            pass

    mcp = Agent(name="Mcp", mcp_servers=[Server()])
'''

ADD = use(("add", {"a": 1, "b": 2}))


class NestedTest(SharedGatewayTest):
    FILES = {"own/code.py": CODE}
    AGENTS = {"agent": "own.code:agent", "mcp": "own.code:mcp"}

    def ask(self, tool: str, *turns: list[str]) -> Outcome:
        argument = "input" if tool == "ask_plain" else "question"
        return self.gateway.run("agent", use((tool, {argument: "x"})), *turns, say("ok"))

    def answer(self, outcome: Outcome) -> str:
        return outcome.bodies[-1]["messages"][-1]["content"]

    def test_an_agent_as_a_tool_uses_the_gateway(self) -> None:
        outcome = self.ask("ask_plain", whole(say("from plain")))
        self.assertEqual([body["model"] for body in outcome.bodies], ["the-model"] * 3)
        self.assertEqual(self.answer(outcome), "from plain")

    def test_tools_of_inner_agents_ask_once_each(self) -> None:
        for tool in ("ask_plain", "ask_fresh", "ask_sync", "ask_own_loop"):
            with self.subTest(tool):
                outcome = self.ask(tool, whole(ADD), whole(say("three")))
                self.assertEqual([ask["name"] for ask in outcome.asks("before_tool")], [tool, "add"])
                self.assertEqual(outcome.bodies[1]["model"], "the-model")
                self.assertNotIn("stream", outcome.bodies[1])
                self.assertEqual(self.answer(outcome), "three")

    def test_names_of_models_are_the_gateways_unchanged(self) -> None:
        outcome = self.ask("ask_named", whole(say("a")), whole(say("b")), whole(say("c")))
        self.assertEqual([body["model"] for body in outcome.bodies[1:-1]], ["lmstudio/qwen3-4b"] * 3)
        self.assertEqual(self.answer(outcome), "a b c")
        outcome = self.ask("ask_streamed", say("s"))
        self.assertEqual((outcome.bodies[1]["model"], self.answer(outcome)), ("lmstudio/qwen3-4b", "s"))

    def test_what_cannot_work_says_why_in_the_log(self) -> None:
        self.ask("stream_own_loop")
        self.ask("sync_on_loop")
        self.gateway.log.seek(0)
        log = self.gateway.log.read().decode()
        self.assertIn("only on the worker's own event loop", log)
        self.assertIn("event loop is already running", log)

    def test_a_run_that_a_thread_waits_for_ends_with_its_call(self) -> None:
        for stopped_at in ("model", "waits"):
            with self.subTest(stopped_at):
                call = self.gateway.start_run("agent")
                self.gateway.say(self.gateway.receive()["ask"], use(("ask_sync", {"question": "x"})))
                self.accept(self.gateway.receive())
                ask = self.gateway.receive()
                self.assertEqual(ask["what"], "model")
                if stopped_at == "waits":
                    self.gateway.say(ask["ask"], whole(use(("waits", {}))))
                    self.accept(self.gateway.receive())
                time.sleep(0.1)
                self.gateway.cancel(call)
                ended = self.gateway.finish(call)
                self.assertEqual(ended.error["kind"], "cancelled")
                time.sleep(0.3)
                self.assertEqual(self.gateway.tasks(), 0)

    def test_waiting_threads_leave_threads_for_the_tools_of_inner_agents(self) -> None:
        calls = {self.gateway.start_run("agent") for _ in range(40)}
        turns: dict[int, list[list[str]]] = {
            call: [use(("ask_sync", {"question": "x"})), whole(ADD), whole(say("three")), say("ok")] for call in calls
        }
        while calls:
            frame = self.gateway.receive()
            if frame["type"] == "ended":
                self.assertEqual(frame["result"]["output"], "ok")
                calls.remove(frame["call"])
            elif frame["type"] == "ask" and frame["what"] == "model":
                self.gateway.say(frame["ask"], turns[frame["call"]].pop(0))
            elif frame["type"] == "ask":
                self.accept(frame)

    def accept(self, ask: Frame) -> None:
        self.assertEqual(ask["what"], "before_tool")
        self.gateway.send({"type": "answer", "ask": ask["ask"], **DEFAULT_ANSWERS["before_tool"](ask)})

    def test_tools_of_mcp_servers_ask_too(self) -> None:
        outcome = self.gateway.run("mcp", use(("search", {"q": "x"})), say("ok"), review=True)
        self.assertEqual([ask["name"] for ask in outcome.asks("before_tool")], ["search"])
        self.assertEqual([ask["content"] for ask in outcome.asks("after_tool")], ["found {'q': 'x'}"])
        self.assertEqual(self.answer(outcome), [{"type": "text", "text": "found {'q': 'x'}"}])
        refused = {"before_tool": lambda _: {"content": "not today", "is_error": True}}
        outcome = self.gateway.run("mcp", use(("search", {"q": "x"})), say("ok"), answers=refused)
        self.assertEqual(self.answer(outcome), "not today")
