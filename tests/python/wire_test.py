"""The wire: frames in pieces, large frames, broken ones, and a gateway that reads slowly."""

from __future__ import annotations

import json
import socket
import time
import unittest
from pathlib import Path

from fake_gateway import BARE, Gateway, chunk

CODE = """
    import asyncio

    def length(text: str) -> int:
        return len(text)

    def double(text: str) -> str:
        return text * 2

    class Floods:
        async def stream(self, messages, context):
            for count in range(400):
                with open("count", "w") as file:
                    file.write(str(count + 1))
                yield "x" * 65536

    class Reads:
        async def run(self, messages, context):
            stream = await context.client.chat.completions.create(model="m", messages=messages, stream=True)
            return str(len([part async for part in stream]))
"""


class WireTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.gateway = Gateway({"own/code.py": CODE})
        agents = {"floods": "own.code:Floods", "reads": "own.code:Reads"}
        cls.gateway.load(agents, ["own.code:length", "own.code:double"])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.gateway.close()

    def test_frames_arrive_byte_by_byte(self) -> None:
        body = json.dumps({"type": "ping", "n": 3}).encode()
        for byte in len(body).to_bytes(4, "big") + body:
            self.gateway._socket.sendall(bytes([byte]))
            time.sleep(0.002)
        self.assertEqual(self.gateway.receive(), {"type": "pong", "n": 3, "tasks": 0})

    def test_many_frames_arrive_at_once(self) -> None:
        body = json.dumps({"type": "ping", "n": 3}).encode()
        self.gateway._socket.sendall((len(body).to_bytes(4, "big") + body) * 500)
        for _ in range(500):
            self.assertEqual(self.gateway.receive()["type"], "pong")

    def test_large_frames_both_ways(self) -> None:
        text = "ä" * (5 * 1024 * 1024)
        self.assertEqual(self.gateway.call("own.code:length", {"text": text}).result["value"], len(text))
        self.assertEqual(self.gateway.call("own.code:double", {"text": text}).result["value"], text * 2)

    def test_unknown_frames_are_noted(self) -> None:
        self.gateway.send({"type": "dance"})
        self.gateway.send({"type": "answer", "ask": 12345, "content": ""})
        self.assertEqual(self.gateway.tasks(), 0)
        self.gateway.log.seek(0)
        self.assertIn("does not know frames of type `dance`", self.gateway.log.read().decode())

    def test_nonsense_ends_the_worker(self) -> None:
        for nonsense in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x03{]}"):
            gateway = Gateway({}, before=BARE)
            gateway._socket.sendall(nonsense)
            self.assertEqual(gateway._reader.read(), b"")
            gateway.close()

    def test_a_slow_gateway_slows_the_agent(self) -> None:
        call = self.gateway.start_run("floods")
        count = Path(self.gateway.root, "count")
        time.sleep(1)
        self.assertLess(int(count.read_text()), 50)
        self.assertEqual(len(self.gateway.finish(call).result["output"]), 400 * 65536)

    def test_a_half_closed_socket_is_a_hang_up(self) -> None:
        gateway = Gateway({}, before=BARE)
        gateway._socket.shutdown(socket.SHUT_WR)
        self.assertEqual(gateway._reader.read(), b"")
        gateway.close()

    def test_chunks_that_come_before_anybody_waits(self) -> None:
        call = self.gateway.start_run("reads")
        ask = self.gateway.receive()["ask"]
        self.gateway.say(ask, [chunk({"content": str(n)}) for n in range(1000)])
        self.assertEqual(self.gateway.finish(call).result["output"], "1000")
