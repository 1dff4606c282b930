"""Tools that an agent of the SDK calls: its own, which ask before and after, and the gateway's."""

from __future__ import annotations

import unittest

from fake_gateway import Outcome, SharedGatewayTest, say, use

AGENTS = '''
    import asyncio, sys, threading
    from agents import Agent, ToolOutputText, function_tool

    @function_tool
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    @function_tool
    async def fails(why: str) -> str:
        """Fails."""
        raise ValueError(why)

    def worded(context, error):
        return f"sorry: {error}"

    @function_tool(failure_error_function=worded)
    def fails_worded() -> str:
        raise ValueError("inside")

    @function_tool(failure_error_function=None)
    def fails_hard() -> str:
        raise ValueError("the run must end")

    @function_tool
    async def exits() -> str:
        sys.exit(4)

    @function_tool
    def returns(what: str) -> object:
        """Returns what the SDK gives the model in a form of its own."""
        parts = [ToolOutputText(text="one"), {"type": "text", "text": "two"}]
        return {"part": parts[0], "parts": parts, "list": ["a", 1], "none": None}[what]

    @function_tool
    async def sleeps() -> str:
        await asyncio.sleep(600)

    ended = threading.Event()

    @function_tool
    def spins() -> str:
        try:
            while True:
                pass
        finally:
            ended.set()

    @function_tool
    async def has_spun() -> str:
        while not ended.is_set():
            await asyncio.sleep(0.01)
        return "ended"

    tools = Agent(name="Tools", tools=[add, fails, fails_worded, fails_hard, exits, returns, sleeps, spins, has_spun])
'''


class ToolTest(SharedGatewayTest):
    FILES = {"own/all.py": AGENTS}
    AGENTS = {"tools": "own.all:tools"}

    def ask(self, name: str, arguments: object, *turns: object, **fields: object) -> Outcome:
        return self.gateway.run("tools", use((name, arguments)), *(turns or [say("ok")]), **fields)

    def result_of(self, outcome: Outcome) -> str:
        return outcome.bodies[1]["messages"][-1]["content"]

    def test_own_tools_are_announced_before_and_after(self) -> None:
        outcome = self.ask("add", {"a": 1, "b": 2}, review=True)
        before, after = outcome.asks("before_tool")[0], outcome.asks("after_tool")[0]
        self.assertEqual((before["name"], before["arguments"], before["id"]), ("add", '{"a": 1, "b": 2}', "call_add_0"))
        self.assertEqual((after["arguments"], after["content"], after["is_error"]), ({"a": 1, "b": 2}, "3", False))
        self.assertEqual(self.result_of(outcome), "3")

    def test_results_are_shown_only_for_review(self) -> None:
        self.assertEqual(self.ask("add", {"a": 1, "b": 2}).asks("after_tool"), [])

    def test_the_gateway_changes_arguments_and_results(self) -> None:
        answers = {
            "before_tool": lambda _: {"arguments": {"a": 10, "b": 20}},
            "after_tool": lambda ask: {"content": f"about {ask['content']}", "is_error": False},
        }
        self.assertEqual(self.result_of(self.ask("add", {"a": 1, "b": 2}, review=True, answers=answers)), "about 30")

    def test_the_gateway_answers_in_place_of_a_tool(self) -> None:
        answers = {"before_tool": lambda _: {"content": "not today", "is_error": True}}
        outcome = self.ask("add", {"a": 1, "b": 2}, review=True, answers=answers)
        self.assertEqual((self.result_of(outcome), outcome.asks("after_tool")), ("not today", []))

    def test_results_are_reviewed_as_text(self) -> None:
        for what, text in {"part": "one", "parts": "one\ntwo", "list": "['a', 1]", "none": "None"}.items():
            with self.subTest(what):
                outcome = self.ask("returns", {"what": what}, review=True)
                self.assertEqual(outcome.asks("after_tool")[0]["content"], text)

    def test_a_failing_tool_is_read_by_the_model(self) -> None:
        for name, arguments, text in [("fails", {"why": "no luck"}, "ValueError: no luck"), ("fails_worded", {}, "sorry: inside")]:
            with self.subTest(name):
                outcome = self.ask(name, arguments, review=True)
                self.assertIn(text, self.result_of(outcome))
                self.assertIs(outcome.asks("after_tool")[0]["is_error"], True)
        self.gateway.log.seek(0)
        log = self.gateway.log.read().decode()
        for name, step in [("fails", "raise ValueError(why)"), ("fails_worded", 'raise ValueError("inside")')]:
            self.assertIn(f"moongate: the tool `{name}` failed", log)
            self.assertIn(step, log)

    def test_a_tool_has_its_time(self) -> None:
        """One that runs on a thread is ended, too: the next tool of the same run sees that it was."""
        for name, turns in [("sleeps", [say("ok")]), ("spins", [use(("has_spun", {})), say("ok")])]:
            with self.subTest(name):
                outcome = self.ask(name, {}, *turns, review=True, tool_timeout=1)
                self.assertEqual(self.result_of(outcome), "timed out after 1 s")
                self.assertIs(outcome.asks("after_tool")[0]["is_error"], True)
        self.assertEqual(outcome.bodies[2]["messages"][-1]["content"], "ended")

    def test_wrong_arguments_are_read_by_the_model(self) -> None:
        outcome = self.ask("add", {"a": "many", "b": 2}, review=True)
        self.assertIs(outcome.asks("after_tool")[0]["is_error"], True)

    def test_a_tool_may_let_the_run_fail(self) -> None:
        error = self.gateway.run("tools", use(("fails_hard", {}))).error
        self.assertEqual((error["kind"], error["file"]), ("exception", "own/all.py"))
        self.assertIn("the run must end", error["message"])
        self.assertIn("raise ValueError", error["traceback"])
        self.assertIsInstance(error["line"], int)

    def test_a_tool_cannot_end_the_worker(self) -> None:
        error = self.gateway.run("tools", use(("exits", {}))).error
        self.assertEqual((error["kind"], error["file"]), ("exception", "own/all.py"))
        self.assertIn("SystemExit(4)", error["message"])

    def test_tools_of_the_gateway(self) -> None:
        definition = {"name": "search", "description": "Searches.", "parameters": {"type": "object", "properties": {}}}
        turns = use(("search", '{"q": "x"}'), ("add", {"a": 1, "b": 2})), say("ok")
        outcome = self.gateway.run("tools", *turns, tools=[definition])
        ask = outcome.asks("tool")[0]
        self.assertEqual((ask["name"], ask["arguments"], ask["id"]), ("search", '{"q": "x"}', "call_search_0"))
        self.assertEqual([each["name"] for each in outcome.asks("before_tool")], ["add"])
        sent = outcome.bodies[0]["tools"][-1]["function"]
        self.assertEqual((sent["name"], sent["description"]), ("search", "Searches."))
        results = [each["content"] for each in outcome.bodies[1]["messages"] if each["role"] == "tool"]
        self.assertEqual(results, ["search of the gateway", "3"])

    def test_an_own_tool_wins_over_one_of_the_gateway(self) -> None:
        names = [
            tool["function"]["name"]
            for tool in self.ask("add", {"a": 1, "b": 2}, tools=[{"name": "add"}]).bodies[0]["tools"]
        ]
        self.assertEqual(names.count("add"), 1)
