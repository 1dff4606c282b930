"""Runs of agents of the SDK: what the models are sent, what streams, and how a run may end."""

from __future__ import annotations

import json
import unittest

from fake_gateway import Failed, SharedGatewayTest, chunk, say, use

AGENTS = '''
    import asyncio, dataclasses, sys
    from agents import (Agent, GuardrailFunctionOutput, ModelSettings, StopAtTools, function_tool, handoff,
                        input_guardrail, output_guardrail)
    from pydantic import BaseModel

    @function_tool
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    plain = Agent(name="Plain", instructions="Be plain.", tools=[add])
    settings = Agent(name="Settings", model="own-model", model_settings=ModelSettings(temperature=0.1))
    stops = Agent(name="Stops", tools=[add], tool_use_behavior="stop_on_first_tool")

    class Weather(BaseModel):
        city: str
        degrees: float

    structured = Agent(name="Structured", output_type=Weather)

    class Opaque:
        pass

    def to_opaque(context, results):
        from agents import ToolsToFinalOutputResult
        return ToolsToFinalOutputResult(is_final_output=True, final_output=Opaque())

    @dataclasses.dataclass
    class Sum:
        total: int

    def to_dataclass(context, results):
        from agents import ToolsToFinalOutputResult
        return ToolsToFinalOutputResult(is_final_output=True, final_output=Sum(int(results[0].output)))

    opaque = Agent(name="Opaque", output_type=Weather, tools=[add], tool_use_behavior=to_opaque)
    total = Agent(name="Total", output_type=Sum, tools=[add], tool_use_behavior=to_dataclass)

    @input_guardrail
    async def no_homework(context, agent, given):
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered="homework" in str(given))

    @output_guardrail
    async def no_secrets(context, agent, output):
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered="secret" in output)

    guarded = Agent(name="Guarded", input_guardrails=[no_homework], output_guardrails=[no_secrets])

    def raises(context, agent):
        return {}["nothing"]

    broken = Agent(name="Broken", instructions=raises)

    def leaves(context, agent):
        raise KeyboardInterrupt

    leaving = Agent(name="Leaving", instructions=leaves)

    @function_tool(needs_approval=True)
    def delete() -> str:
        return "deleted"

    approval = Agent(name="Approval", tools=[delete])
    who = Agent(name="Who", instructions=lambda context, agent: f"{context.context.user} of {context.context.session}")
'''
NAMES = ["plain", "settings", "stops", "structured", "opaque", "total", "guarded", "broken"]
NAMES += ["leaving", "approval", "who"]


class AgentTest(SharedGatewayTest):
    FILES = {"own/all.py": AGENTS}
    AGENTS = {name: f"own.all:{name}" for name in NAMES}


class StreamingTest(AgentTest):
    def test_text_streams_as_the_model_says_it(self) -> None:
        outcome = self.gateway.run("plain", say("one ", "two ", "three"))
        self.assertEqual(outcome.deltas(), ["one ", "two ", "three"])
        self.assertEqual(outcome.result, {"output": "one two three", "last_agent": "Plain"})

    def test_reasoning_streams_in_both_of_its_forms(self) -> None:
        for field in ("reasoning_content", "reasoning"):
            with self.subTest(field):
                outcome = self.gateway.run("plain", [chunk({field: "hm "}), chunk({field: "so"}), *say("yes")])
                self.assertEqual(outcome.deltas("reasoning"), ["hm ", "so"])
                self.assertEqual(outcome.result["output"], "yes")

    def test_a_refusal_streams_and_ends_the_run(self) -> None:
        outcome = self.gateway.run("plain", [chunk({"refusal": "I "}), chunk({"refusal": "won't"}), chunk({}, "stop")])
        self.assertEqual(outcome.deltas("refusal"), ["I ", "won't"])
        self.assertEqual(outcome.deltas(), [])
        self.assertIn("result", outcome.ended)

    def test_chunks_that_stray_from_the_schema_are_read(self) -> None:
        bare = json.dumps({"choices": [{"index": 0, "delta": {"content": "bare"}, "finish_reason": None}]})
        odd = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "eos"}]})
        self.assertEqual(self.gateway.run("plain", [bare, odd]).result["output"], "bare")

    def test_text_that_no_model_said_is_sent_at_the_end(self) -> None:
        outcome = self.gateway.run("stops", [chunk({"content": "let me see"}), *use(("add", {"a": 1, "b": 2}))])
        self.assertEqual(outcome.deltas(), ["let me see", "3"])
        self.assertEqual(outcome.result["output"], "3")

    def test_structured_output_is_the_text_as_the_model_wrote_it(self) -> None:
        outcome = self.gateway.run("structured", say('{"city": "Oslo",', ' "degrees": 3.50}'))
        self.assertEqual(outcome.result["output"], '{"city": "Oslo", "degrees": 3.50}')
        self.assertEqual("".join(outcome.deltas()), outcome.result["output"])
        self.assertEqual(outcome.bodies[0]["response_format"]["type"], "json_schema")

    def test_other_final_outputs_become_json(self) -> None:
        outcome = self.gateway.run("total", use(("add", {"a": 1, "b": 2})))
        self.assertEqual(outcome.deltas(), ['{"total":3}'])

    def test_any_text_survives_the_wire(self) -> None:
        text = 'quote " back \\ null \x00 line\u2028 smile \U0001f600'
        self.assertEqual(self.gateway.run("plain", say(text)).result["output"], text)


class RequestTest(AgentTest):
    def body(self, agent: str = "plain", **fields: object) -> dict:
        return self.gateway.run(agent, say("ok"), **fields).bodies[0]

    def test_the_model_is_the_entrys_unless_the_code_names_one(self) -> None:
        self.assertEqual(self.body()["model"], "the-model")
        self.assertEqual(self.body("settings")["model"], "own-model")

    def test_no_settings_of_the_sdks_default_model_leak(self) -> None:
        self.assertEqual(set(self.body()), {"model", "messages", "tools", "stream"})

    def test_settings_stand_below_those_of_the_code(self) -> None:
        body = self.body("settings", settings={"temperature": 0.9, "top_k": 5, "stop": ["x"]})
        self.assertEqual((body["temperature"], body["top_k"], body["stop"]), (0.1, 5, ["x"]))

    def test_instructions_of_the_entry_are_a_system_message(self) -> None:
        messages = self.body(instructions="From the entry.")["messages"]
        self.assertEqual([each["content"] for each in messages], ["Be plain.", "From the entry.", "hello"])

    def test_tools_are_called_in_turn_when_they_must_not_be_parallel(self) -> None:
        answered: list[str] = []
        calls = use(("add", {"a": 1, "b": 1}), ("add", {"a": 2, "b": 2}))
        outcome = self.gateway.run("plain", calls, say("ok"), parallel_tool_calls=False, review=True)
        answered = [ask["what"] for ask in outcome.frames if ask["type"] == "ask" and ask["what"] != "model"]
        self.assertEqual(answered, ["before_tool", "after_tool"] * 2)
        self.assertIs(outcome.bodies[0]["parallel_tool_calls"], False)

    def test_the_whole_conversation_comes_through(self) -> None:
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
        call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":2}'}}
        messages = [
            {"role": "system", "content": [{"type": "text", "text": "system"}]},
            {"role": "developer", "content": "developer"},
            {"role": "user", "content": [{"type": "text", "text": "what is it?"}, picture]},
            {"role": "assistant", "content": "let me add", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "assistant", "content": [{"type": "text", "text": "three"}]},
            {"role": "assistant", "content": None, "tool_calls": [call | {"id": "c2"}]},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "3"}]},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "user", "content": "and now?"},
        ]
        sent = self.body(messages=messages)["messages"][1:]
        self.assertEqual([each["role"] for each in sent], [each["role"] for each in messages])
        self.assertEqual(sent[0]["content"], "system")
        self.assertEqual(sent[2]["content"], messages[2]["content"])
        self.assertEqual((sent[3]["content"], sent[3]["tool_calls"]), ("let me add", [call]))
        self.assertEqual(sent[4], messages[4])
        self.assertEqual([sent[5]["content"], sent[7]["content"], sent[8]["content"]], ["three", "3", "no"])

    def test_the_context_reaches_the_users_code(self) -> None:
        self.assertEqual(self.body("who")["messages"][0]["content"], "u1 of s1")


class EndTest(AgentTest):
    def test_guardrails(self) -> None:
        homework = [{"role": "user", "content": "do my homework"}]
        error = self.gateway.run("guarded", say("sure"), messages=homework).error
        self.assertEqual(error["kind"], "guardrail")
        self.assertEqual(error["message"], "the input guardrail `no_homework` refused this request")
        error = self.gateway.run("guarded", say("the secret")).error
        self.assertEqual(error["message"], "the output guardrail `no_secrets` refused this answer")
        self.assertEqual(self.gateway.run("guarded", say("fine")).result["output"], "fine")

    def test_max_turns(self) -> None:
        turns = [use(("add", {"a": 1, "b": 2}))] * 2
        error = self.gateway.run("plain", *turns, max_turns=2).error
        self.assertEqual(error["kind"], "max_turns")
        self.assertIn("2", error["message"])

    def test_a_failed_model_call_passes_through(self) -> None:
        told = {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded", "param": None}
        for status in (400, 401, 404, 418, 429, 500, 503):
            with self.subTest(status):
                error = self.gateway.run("plain", Failed(status, told)).error
                self.assertEqual((error["kind"], error["status"], error["error"]), ("model", status, told))

    def test_a_model_call_that_fails_midway_passes_through(self) -> None:
        told = {"message": "the server hung up", "type": "server_error"}
        outcome = self.gateway.run("plain", Failed(502, told, [chunk({"content": "so far"})]))
        self.assertEqual(outcome.deltas(), ["so far"])
        self.assertEqual((outcome.error["kind"], outcome.error["status"], outcome.error["error"]), ("model", 502, told))

    def test_outputs_that_are_not_json(self) -> None:
        error = self.gateway.run("opaque", use(("add", {"a": 1, "b": 2}))).error
        self.assertEqual(error["kind"], "output")
        self.assertIn("agent `Opaque` returned a `own.all.Opaque`, which cannot be written as JSON", error["message"])

    def test_structured_output_that_does_not_fit(self) -> None:
        self.assertEqual(self.gateway.run("structured", say("not json")).error["kind"], "exception")

    def test_errors_of_the_users_code(self) -> None:
        error = self.gateway.run("broken").error
        self.assertEqual(
            (error["kind"], error["message"], error["file"]), ("exception", "KeyError: 'nothing'", "own/all.py")
        )
        line = (self.gateway.root / "own/all.py").read_text().splitlines()[error["line"] - 1]
        self.assertIn('{}["nothing"]', line)

    def test_leaving_from_anywhere_ends_only_the_run(self) -> None:
        error = self.gateway.run("leaving").error
        self.assertEqual((error["kind"], error["message"]), ("exception", "KeyboardInterrupt"))
        self.assertEqual(self.gateway.run("plain", say("still here")).result["output"], "still here")

    def test_tools_that_nobody_here_can_approve(self) -> None:
        error = self.gateway.run("approval", use(("delete", {}))).error
        self.assertIn("the run waits for somebody to approve `delete`", error["message"])

    def test_an_unknown_agent(self) -> None:
        self.assertEqual(self.gateway.run("nobody").error["kind"], "load")


del AgentTest
