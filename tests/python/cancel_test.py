"""Cancelled calls: their tasks and threads end, and those that resist are told."""

from __future__ import annotations

import time
import unittest

from fake_gateway import DEFAULT_ANSWERS, Frame, Gateway, chunk, say, use

CODE = '''
    import asyncio, threading, time
    from agents import Agent, function_tool

    def spins() -> str:
        while True:
            pass

    def resists() -> str:
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            try:
                while True:
                    pass
            except BaseException:
                pass
        return "at last"

    def blocks() -> str:
        time.sleep(2.5)
        return "woke up"

    async def waits() -> str:
        await asyncio.sleep(60)
        return ""

    async def cleans_up() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            print("cleaned up", flush=True)

    async def swallows() -> str:
        for _ in range(3):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
        return "at last"

    def quick(n: int) -> int:
        return n

    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    @function_tool
    def tool_spins() -> str:
        """Never returns."""
        while True:
            pass

    @function_tool(timeout=0.1)
    async def tool_with_timeout() -> str:
        """Leaves a thread behind."""
        return await asyncio.to_thread(spins)

    @function_tool
    async def tool_waits() -> str:
        """Waits."""
        await asyncio.sleep(60)

    @function_tool
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    agent = Agent(name="A", tools=[add, tool_spins, tool_waits, tool_with_timeout])

    class Stubborn:
        async def stream(self, messages, context):
            try:
                yield "a"
                await asyncio.sleep(60)
            finally:
                print("closed", flush=True)
'''
TOOLS = ["spins", "resists", "blocks", "waits", "cleans_up", "swallows", "quick", "names"]


class CancelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.gateway = Gateway({"own/code.py": CODE})
        agents = {"agent": "own.code:agent", "stubborn": "own.code:Stubborn"}
        cls.loaded = cls.gateway.load(agents, [f"own.code:{name}" for name in TOOLS])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.gateway.close()

    def start(self, name: str, **arguments: object) -> int:
        call = self.gateway.start_call(f"own.code:{name}", arguments)
        self.assertEqual(self.gateway.tasks(), 1)
        time.sleep(0.05)
        return call

    def cancel(self, call: int) -> Frame:
        """Cancel, and return the `ended` frame that must come at once."""
        self.gateway.cancel(call)
        while (frame := self.gateway.receive()).get("call") != call or frame["type"] != "ended":
            self.assertNotEqual(frame["type"], "stuck")
        return frame

    def assert_gone(self, within: float) -> None:
        deadline = time.monotonic() + within
        while self.gateway.tasks():
            self.assertLess(time.monotonic(), deadline, "a call is still alive")
            time.sleep(0.02)

    def assert_cancelled(self, frame: Frame) -> None:
        self.assertEqual(frame["error"]["kind"], "cancelled")

    def test_a_spinning_thread_is_ended(self) -> None:
        self.assert_cancelled(self.cancel(self.start("spins")))
        self.assert_gone(0.5)

    def test_a_thread_that_resists_is_ended_when_it_stops_to(self) -> None:
        self.assert_cancelled(self.cancel(self.start("resists")))
        self.assert_gone(1)

    def test_threads_that_were_interrupted_serve_others(self) -> None:
        for _ in range(20):
            self.cancel(self.start("spins"))
            self.assertEqual(self.gateway.call("own.code:quick", {"n": 5}).result["value"], 5)
            self.assert_gone(0.5)
        names = self.gateway.call("own.code:names", {}).result["value"]
        self.assertLessEqual(names.count("moongate-tool"), 8)

    def test_a_blocked_thread_is_told(self) -> None:
        call = self.start("blocks")
        self.assert_cancelled(self.cancel(call))
        began = time.monotonic()
        self.assertEqual(self.gateway.receive(), {"type": "stuck", "call": call})
        self.assertAlmostEqual(time.monotonic() - began, 1, delta=0.4)
        self.gateway.send({"type": "ping", "n": 1})
        self.assertEqual(self.gateway.receive(), {"type": "pong", "n": 1, "tasks": 1})
        time.sleep(2)
        self.gateway.send({"type": "ping", "n": 2})
        self.assertEqual(self.gateway.receive(), {"type": "pong", "n": 2, "tasks": 0}, "told more than once")

    def test_waiting_coroutines_end_and_clean_up(self) -> None:
        self.assert_cancelled(self.cancel(self.start("waits")))
        self.assert_gone(0.1)
        began = time.monotonic()
        self.assert_cancelled(self.cancel(self.start("cleans_up")))
        self.assertGreater(time.monotonic() - began, 0.2)
        self.assert_gone(0.1)
        self.gateway.log.seek(0)
        self.assertIn(b"cleaned up", self.gateway.log.read())

    def test_a_coroutine_that_swallows_its_cancellation_is_told_and_ended_once(self) -> None:
        call = self.start("swallows")
        self.gateway.cancel(call)
        self.assertEqual(self.gateway.receive(), {"type": "stuck", "call": call})
        self.assert_cancelled(self.gateway.receive())
        self.assert_gone(4)

    def test_cancelled_before_its_first_step(self) -> None:
        body = b"".join(
            len(frame).to_bytes(4, "big") + frame
            for frame in (
                b'{"type":"call","call":99001,"function":"own.code:waits","arguments":{}}',
                b'{"type":"cancel","call":99001}',
                b'{"type":"cancel","call":99002}',
            )
        )
        self.gateway._socket.sendall(body)
        frame = self.gateway.receive()
        self.assertEqual(frame["call"], 99001)
        self.assert_cancelled(frame)
        self.assert_gone(0.1)

    def test_a_run_that_waits_for_its_model(self) -> None:
        call = self.gateway.start_run("agent")
        ask = self.gateway.receive()["ask"]
        self.gateway.send({"type": "chunk", "ask": ask, "data": chunk({"content": "a"})})
        self.assertEqual(self.gateway.receive()["content"], "a")
        self.assert_cancelled(self.cancel(call))
        self.assert_gone(0.1)
        self.gateway.say(ask, say("late"))
        self.assertEqual(self.gateway.tasks(), 0)

    def test_a_run_inside_its_tools(self) -> None:
        for name in ("tool_spins", "tool_waits"):
            with self.subTest(name):
                call = self.gateway.start_run("agent")
                self.gateway.say(self.gateway.receive()["ask"], use((name, {}), ("add", {"a": 1, "b": 2})))
                for _ in range(2):
                    ask = self.gateway.receive()
                    self.gateway.send({"type": "answer", "ask": ask["ask"], **DEFAULT_ANSWERS["before_tool"](ask)})
                time.sleep(0.2)
                self.assert_cancelled(self.cancel(call))
                self.assert_gone(0.5)

    def test_a_run_that_waits_for_a_tool_of_the_gateway(self) -> None:
        call = self.gateway.start_run("agent", tools=[{"name": "search"}])
        self.gateway.say(self.gateway.receive()["ask"], use(("search", {})))
        self.assertEqual(self.gateway.receive()["what"], "tool")
        self.assert_cancelled(self.cancel(call))
        self.assert_gone(0.1)

    def test_a_thread_left_behind_by_a_finished_run_is_ended(self) -> None:
        outcome = self.gateway.run("agent", use(("tool_with_timeout", {})), say("ok"))
        self.assertIn("timed out", outcome.bodies[1]["messages"][-1]["content"])
        self.assert_gone(0.5)

    def test_a_stream_is_closed(self) -> None:
        call = self.gateway.start_run("stubborn")
        self.assertEqual(self.gateway.receive()["content"], "a")
        self.assert_cancelled(self.cancel(call))
        self.gateway.log.seek(0)
        self.assertIn(b"closed", self.gateway.log.read())

    def test_the_worker_goes_when_the_gateway_hangs_up(self) -> None:
        gateway = Gateway({"own/code.py": CODE})
        gateway.load({"agent": "own.code:agent"})
        gateway.start_run("agent")
        gateway.close()
        self.assertEqual(gateway.process.returncode, 0)
