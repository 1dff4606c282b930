"""Handoffs between agents: graphs of them, and the example agents that are shipped."""

from __future__ import annotations

import json
import unittest
from pathlib import Path

from fake_gateway import Frame, Gateway, Outcome, say, use

AGENTS = Path(__file__).resolve().parents[2] / "agents"

GRAPH = '''
    from agents import Agent, function_tool, handoff
    from agents.extensions import handoff_filters

    @function_tool
    def note(text: str) -> str:
        """Notes."""
        return f"noted {text}"

    first = Agent(name="First")
    second = Agent(name="Second", tools=[note], handoffs=[first])
    seen = []
    third = Agent(name="Third", tools=[note])

    def on_third(context):
        seen.append(context.context.user)

    by_object = handoff(third, on_handoff=on_third, input_filter=handoff_filters.remove_all_tools)
    first.handoffs += [second, by_object]

    fresh = handoff(Agent(name="Fresh"), tool_name_override="anew")

    async def build_anew(context, arguments):
        return Agent(name="Built anew", tools=[note], handoffs=[first])

    fresh.on_invoke_handoff = build_anew
    first.handoffs.append(fresh)

    def untouched() -> str:
        return f"{first.tools} {first.handoffs[0] is second} {second.tools[0] is note} {seen}"
'''

TO_SECOND = use(("transfer_to_second", {}))
TO_FIRST = use(("transfer_to_first", {}))


def tool_names(body: Frame) -> list[str]:
    return [tool["function"]["name"] for tool in body.get("tools", [])]


def tool_results(body: Frame) -> list[str]:
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]


class HandoffTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        files = {f"agents/{name}.py": (AGENTS / f"{name}.py").read_text() for name in ("researcher", "triage")}
        cls.gateway = Gateway({"own/graph.py": GRAPH, **files})
        targets = {
            "graph": "own.graph:first",
            "researcher": "agents.researcher:build_agent",
            "triage": "agents.triage:build_agent",
        }
        cls.loaded = cls.gateway.load(targets, ["own.graph:untouched"])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.gateway.close()

    def test_everything_loads(self) -> None:
        self.assertEqual(self.loaded["agents"], {"graph": None, "researcher": None, "triage": None})

    def test_the_text_of_every_agent_streams_and_the_last_one_is_named(self) -> None:
        outcome = self.gateway.run("graph", [*say("one moment, ")[:-1], *TO_SECOND], say("I am second"))
        self.assertEqual(outcome.deltas(), ["one moment, ", "I am second"])
        self.assertEqual(outcome.result, {"output": "I am second", "last_agent": "Second"})

    def test_tools_of_later_agents_ask_too(self) -> None:
        outcome = self.gateway.run("graph", TO_SECOND, use(("note", {"text": "x"})), say("ok"), review=True)
        self.assertEqual([ask["name"] for ask in outcome.asks("before_tool")], ["note"])
        self.assertEqual([ask["content"] for ask in outcome.asks("after_tool")], ["noted x"])

    def test_circles_come_back_to_the_agent_with_the_gateways_tools(self) -> None:
        search = {"name": "search", "parameters": {"type": "object", "properties": {}}}
        turns = TO_SECOND, TO_FIRST, use(("search", {})), say("ok")
        outcome = self.gateway.run("graph", *turns, tools=[search])
        has_search = ["search" in tool_names(body) for body in outcome.bodies]
        self.assertEqual(has_search, [True, False, True, True])
        self.assertEqual(tool_results(outcome.bodies[3])[-1], "search of the gateway")

    def test_handoff_objects_keep_what_they_do(self) -> None:
        turns = use(("transfer_to_third", {})), use(("note", {"text": "x"})), say("ok")
        outcome = self.gateway.run("graph", *turns)
        self.assertEqual(outcome.result["last_agent"], "Third")
        self.assertEqual(tool_results(outcome.bodies[1]), [], "the input filter was lost")
        self.assertEqual(len(outcome.asks("before_tool")), 1)

    def test_agents_built_by_the_handoff_itself(self) -> None:
        turns = use(("anew", {})), use(("note", {"text": "x"})), TO_FIRST, TO_SECOND, say("ok")
        outcome = self.gateway.run("graph", *turns)
        self.assertEqual(len(outcome.asks("before_tool")), 1)
        self.assertEqual(outcome.result["last_agent"], "Second")

    def test_the_users_objects_are_never_changed(self) -> None:
        self.gateway.run("graph", use(("transfer_to_third", {})), say("ok"), tools=[{"name": "search"}])
        self.assertIn("[] True True ['u1'", self.gateway.call("own.graph:untouched", {}).result["content"])

    def run_example(self, agent: str, *turns: list[str]) -> Outcome:
        outcome = self.gateway.run(agent, *turns)
        for body in outcome.bodies:
            for tool in body.get("tools", []):
                self.assertTrue(tool["function"]["description"], tool)
        return outcome

    def test_the_researcher_looks_up_and_hands_over(self) -> None:
        outcome = self.run_example(
            "researcher",
            use(("search_library", {"query": "landing tides"})),
            use(("read_article", {"title": "Tides"}), ("read_article", {"title": "Cheese"})),
            use(("transfer_to_writer", {})),
            say("Two tides ", "a day (Tides)."),
        )
        self.assertEqual(outcome.result, {"output": "Two tides a day (Tides).", "last_agent": "Writer"})
        self.assertEqual(tool_names(outcome.bodies[0]), ["search_library", "read_article", "transfer_to_writer"])
        found, article, missing = tool_results(outcome.bodies[2])
        self.assertIn("Tides", found)
        self.assertIn("two tides a day", article)
        self.assertIn("The titles are: Apollo 11", missing)

    def test_the_front_desk_passes_on_and_specialists_pass_back(self) -> None:
        outcome = self.run_example(
            "triage",
            use(("transfer_to_billing", {})),
            use(("transfer_to_front_desk", {})),
            use(("transfer_to_shipping", {})),
            use(("track_order", {"order": "A-17"})),
            say("It arrives tomorrow."),
        )
        self.assertEqual(outcome.result["last_agent"], "Shipping")
        self.assertIn("arrives tomorrow", tool_results(outcome.bodies[4])[-1])
        names = tool_names(outcome.bodies[0])
        self.assertEqual(names, ["transfer_to_billing", "transfer_to_technical", "transfer_to_shipping"])

    def test_every_specialist_answers(self) -> None:
        cases = {
            "billing": ("look_up_invoice", {"number": "INV-1002"}, "120.00 EUR, due on 1 July"),
            "technical": ("service_status", {"service": "Dashboard"}, "slow since 09:40"),
            "shipping": ("track_order", {"order": "Z"}, "no order Z"),
        }
        for name, (tool, arguments, text) in cases.items():
            with self.subTest(name):
                turns = use((f"transfer_to_{name}", {})), use((tool, arguments)), say("ok")
                outcome = self.run_example("triage", *turns)
                self.assertIn(text, tool_results(outcome.bodies[2])[-1])
                self.assertEqual(json.loads(outcome.asks("before_tool")[0]["arguments"]), arguments)
