"""Runs of objects that are not of the SDK, and the client and the tools that their context gives them."""

from __future__ import annotations

import json
import unittest

from fake_gateway import Failed, Gateway, chunk, say

OBJECTS = """
    import asyncio, dataclasses
    import openai

    class Whole:
        async def run(self, messages, context):
            return f"{context.user} {context.session} {context.key} {context.run} {context.model}"

    class Pieces:
        async def stream(self, messages, context):
            for word in ("one", " two", ""):
                yield word

    class Countdown:
        def __init__(self, count):
            self.count = count

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.count:
                raise StopAsyncIteration
            self.count -= 1
            return str(self.count)

    class PlainIterator:
        async def stream(self, messages, context):
            return Countdown(3)

    class Fallen(Pieces):
        async def run(self, messages, context):
            return "not used"

    async def build():
        return Whole()

    @dataclasses.dataclass
    class Answer:
        text: str

    class Structured:
        async def run(self, messages, context):
            return Answer("x")

    class Opaque:
        async def run(self, messages, context):
            return self

    class Numbers:
        async def stream(self, messages, context):
            yield 1

    class Tools:
        async def run(self, messages, context):
            names = [tool["name"] for tool in context.tools]
            return f"{names} {await context.call_tool('search', {'q': 1})}"

    class Client:
        async def stream(self, messages, context):
            stream = await context.client.chat.completions.create(model=context.model, messages=messages, stream=True)
            async for part in stream:
                yield part.choices[0].delta.content or ""

    class FirstOnly:
        async def run(self, messages, context):
            stream = await context.client.chat.completions.create(model="m", messages=messages, stream=True)
            async for part in stream:
                await stream.close()
                return part.choices[0].delta.content

    class Plain:
        async def run(self, messages, context):
            answer = await context.client.chat.completions.create(model="mine", messages=messages, temperature=0.5)
            return answer.choices[0].message.content

    class Handles:
        async def run(self, messages, context):
            try:
                await context.client.chat.completions.create(model="m", messages=messages)
            except openai.RateLimitError as error:
                return f"{error.status_code} {error.body['code']}"

    class Embeds:
        async def run(self, messages, context):
            try:
                await context.client.embeddings.create(model="m", input="x")
            except openai.NotFoundError as error:
                return error.body["message"]

    class Afterwards:
        async def run(self, messages, context):
            async def later():
                await asyncio.sleep(0.05)
                try:
                    await context.call_tool("search")
                except Exception as error:
                    self.seen = str(error)
            seen, self.seen = getattr(self, "seen", ""), ""
            self.task = asyncio.ensure_future(later())
            await asyncio.sleep(0.1 if seen else 0)
            return seen

    class Sync:
        def run(self, messages, context):
            return "no"
"""
NAMES = ["Whole", "Pieces", "Fallen", "build", "Structured", "Opaque", "Numbers", "Tools", "Client", "FirstOnly"]
NAMES += ["Plain", "Handles", "Embeds", "Afterwards", "Sync", "PlainIterator"]


class ObjectTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.gateway = Gateway({"own/objects.py": OBJECTS})
        cls.loaded = cls.gateway.load({name: f"own.objects:{name}" for name in NAMES})["agents"]

    @classmethod
    def tearDownClass(cls) -> None:
        cls.gateway.close()

    def tearDown(self) -> None:
        self.assertEqual(self.gateway.tasks(), 0)

    def test_run_returns_the_whole(self) -> None:
        for name in ("Whole", "build"):
            outcome = self.gateway.run(name)
            self.assertEqual(outcome.deltas(), ["u1 s1 k1 r1 the-model"])
            self.assertEqual(outcome.result, {"output": "u1 s1 k1 r1 the-model", "last_agent": name})

    def test_stream_sends_pieces_and_is_preferred(self) -> None:
        for name in ("Pieces", "Fallen"):
            outcome = self.gateway.run(name)
            self.assertEqual((outcome.deltas(), outcome.result["output"]), (["one", " two"], "one two"))

    def test_stream_may_return_any_async_iterator(self) -> None:
        self.assertEqual(self.gateway.run("PlainIterator").result["output"], "210")

    def test_results_become_json(self) -> None:
        self.assertEqual(self.gateway.run("Structured").deltas(), ['{"text":"x"}'])

    def test_wrong_types_are_named(self) -> None:
        self.assertIn("`Opaque` returned a `own.objects.Opaque`", self.gateway.run("Opaque").error["message"])
        error = self.gateway.run("Numbers").error
        self.assertEqual(
            (error["kind"], error["message"]), ("output", "agent `Numbers` yielded a `int`; `stream` must yield text")
        )

    def test_an_object_without_async_methods_is_refused(self) -> None:
        self.assertIn("returned a `own.objects.Sync`, not an Agent", self.loaded["Sync"]["message"])

    def test_tools_of_the_gateway(self) -> None:
        outcome = self.gateway.run("Tools", tools=[{"name": "search"}])
        self.assertEqual(outcome.result["output"], "['search'] search of the gateway")
        self.assertEqual(json.loads(outcome.asks("tool")[0]["arguments"]), {"q": 1})

    def test_a_failing_tool_of_the_gateway_is_an_exception(self) -> None:
        error = self.gateway.run("Tools", answers={"tool": lambda _: {"content": "no net", "is_error": True}}).error
        self.assertEqual((error["kind"], error["message"]), ("exception", "ToolFailed: no net"))

    def test_the_client_streams(self) -> None:
        outcome = self.gateway.run("Client", say("a", "b"))
        self.assertEqual(outcome.deltas(), ["a", "b"])
        self.assertEqual(
            outcome.bodies, [{"messages": [{"role": "user", "content": "hello"}], "model": "the-model", "stream": True}]
        )

    def test_closing_a_stream_forgets_the_rest(self) -> None:
        call = self.gateway.start_run("FirstOnly")
        ask = self.gateway.receive()
        self.gateway.send({"type": "chunk", "ask": ask["ask"], "data": chunk({"content": "first"})})
        self.assertEqual(self.gateway.receive(), {"type": "forget", "call": call, "ask": ask["ask"]})
        self.assertEqual(self.gateway.finish(call).result["output"], "first")
        self.gateway.say(ask["ask"], say("late"))

    def test_the_client_asks_for_a_whole_answer(self) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        outcome = self.gateway.run("Plain", [json.dumps(whole, indent=1)])
        self.assertEqual(outcome.result["output"], "whole")
        self.assertEqual((outcome.bodies[0]["model"], outcome.bodies[0]["temperature"]), ("mine", 0.5))

    def test_failures_are_those_of_the_openai_client(self) -> None:
        told = {"message": "slow down", "type": "rate_limit_error", "code": "slow"}
        self.assertEqual(self.gateway.run("Handles", Failed(429, told)).result["output"], "429 slow")

    def test_failures_that_nobody_handles_pass_through(self) -> None:
        told = {"message": "down", "type": "server_error", "code": None}
        for turn in (Failed(503, told), Failed(503, told, [chunk({"content": "a"})])):
            error = self.gateway.run("Client", turn).error
            self.assertEqual((error["kind"], error["error"]), ("model", told))

    def test_the_client_has_only_chat_completions(self) -> None:
        self.assertIn("only chat completions, not POST /v1/embeddings", self.gateway.run("Embeds").result["output"])

    def test_nothing_is_asked_after_the_end(self) -> None:
        self.assertEqual(self.gateway.run("Afterwards").result["output"], "")
        import time

        time.sleep(0.1)
        self.assertIn("the run has ended", self.gateway.run("Afterwards").result["output"])
