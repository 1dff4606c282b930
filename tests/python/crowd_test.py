"""Many runs at once: nobody starves, and cancelling half of them leaves nothing behind."""

from __future__ import annotations

import time
import unittest

from fake_gateway import DEFAULT_ANSWERS, Frame, Gateway, chunk, say, use

CODE = '''
    import asyncio
    from agents import Agent, function_tool

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    @function_tool
    async def tool_waits() -> str:
        """Waits."""
        await asyncio.sleep(60)

    @function_tool
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    agent = Agent(name="A", tools=[add, tool_waits], handoffs=[Agent(name="Writer")])
'''


class CrowdTest(unittest.TestCase):
    RUNS = 200
    CHUNKS = 20

    def setUp(self) -> None:
        self.gateway = Gateway({"own/code.py": CODE})
        self.addCleanup(self.gateway.close)
        self.gateway.load({"agent": "own.code:agent"}, ["own.code:tasks"])

    def test_runs_share_the_worker_fairly(self) -> None:
        """All runs get their tool call and then one chunk each in turn; no run is served far before another."""
        calls = [self.gateway.start_run("agent") for _ in range(self.RUNS)]
        first, last = dict.fromkeys(calls, 0.0), dict.fromkeys(calls, 0.0)
        order: list[int] = []
        turns = dict.fromkeys(calls, 0)
        asks: dict[int, int] = {}
        began = time.monotonic()
        while not all(last.values()):
            frame = self.gateway.receive()
            call = frame["call"]
            if frame["type"] == "ended":
                self.assertEqual(frame["result"]["output"], "w " * self.CHUNKS)
                last[call] = time.monotonic() - began
            elif frame["type"] == "delta":
                first[call] = first[call] or time.monotonic() - began
                order.append(call)
            elif frame["what"] == "before_tool":
                self.gateway.send({"type": "answer", "ask": frame["ask"], **DEFAULT_ANSWERS["before_tool"](frame)})
            else:
                turns[call] += 1
                if turns[call] == 1:
                    self.gateway.say(frame["ask"], use(("add", {"a": 1, "b": 2})))
                    continue
                asks[call] = frame["ask"]
                if len(asks) == self.RUNS:
                    self.stream(list(asks.values()))
        took = max(last.values())
        print(
            f"\n{self.RUNS} runs: first chunks {min(first.values()):.2f} to {max(first.values()):.2f} s, "
            f"ends {min(last.values()):.2f} to {took:.2f} s"
        )
        half = order[: len(order) // 2]
        shares = [half.count(call) for call in calls]
        self.assertGreaterEqual(min(shares), self.CHUNKS // 4, "a run starved")
        self.assertLessEqual(max(shares), self.CHUNKS * 3 // 4, "a run was favoured")

    def stream(self, asks: list[int]) -> None:
        for _ in range(self.CHUNKS):
            for ask in asks:
                self.gateway.send({"type": "chunk", "ask": ask, "data": chunk({"content": "w "})})
        for ask in asks:
            self.gateway.say(ask, [chunk({}, "stop")])

    def test_cancelling_half_leaves_nothing_behind(self) -> None:
        before = self.gateway.call("own.code:tasks", {}).result["value"]
        calls = [self.gateway.start_run("agent") for _ in range(self.RUNS)]
        doomed = set(calls[::2])
        ended: dict[int, Frame] = {}
        seen: set[int] = set()
        while len(ended) < self.RUNS:
            frame = self.gateway.receive()
            call = frame["call"]
            if frame["type"] == "ended":
                ended[call] = frame
            elif frame["type"] == "ask" and call in doomed and call not in seen:
                # Some die before their first chunk, some in the middle of a stream, some inside a tool.
                seen.add(call)
                kind = len(seen) % 3
                if kind == 1:
                    data = chunk({"content": "a"})
                    self.gateway.send({"type": "chunk", "ask": frame["ask"], "data": data})
                elif kind == 2:
                    self.gateway.say(frame["ask"], use(("tool_waits", {})))
                    continue
                self.gateway.cancel(call)
            elif frame["type"] == "ask" and frame["what"] == "before_tool":
                self.gateway.send({"type": "answer", "ask": frame["ask"], "arguments": {}})
                self.gateway.cancel(call)
            elif frame["type"] == "ask":
                self.gateway.say(frame["ask"], say("ok"))
        kinds = {call: frame.get("error", {}).get("kind") for call, frame in ended.items()}
        self.assertEqual(kinds, {call: "cancelled" if call in doomed else None for call in calls})
        self.assertEqual(self.gateway.tasks(), 0)
        time.sleep(0.1)
        self.assertEqual(self.gateway.call("own.code:tasks", {}).result["value"], before)
