"""A scripted gateway that drives a real worker process over a socket pair."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import unittest
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Frame = dict[str, Any]

WORKER = Path(__file__).resolve().parents[2] / "proxy" / "python" / "worker"

_SERVE = """
import json, sys
sys.path.remove("")
{before}
from moongate_worker.main import serve
serve(int(sys.argv[1]), json.loads(sys.argv[2]))
"""

NO_SDK = """
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "agents" and path is None:
            raise ModuleNotFoundError("No module named 'agents'", name="agents")
"""

BARE = "sys.path = [folder for folder in sys.path if 'site-packages' not in folder]"
"""No installed packages at all, which also starts faster."""


@dataclass
class Failed:
    """A model call that fails, after some chunks."""

    status: int
    error: Frame
    chunks: list[str] = field(default_factory=list)


def chunk(delta: Frame, finish: str | None = None) -> str:
    """One `chat.completion.chunk` as text."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def say(*pieces: str) -> list[str]:
    """A model's turn of text."""
    return [*(chunk({"content": piece}) for piece in pieces), chunk({}, "stop")]


def use(*calls: tuple[str, Any]) -> list[str]:
    """A model's turn that calls tools: pairs of name and arguments (text is sent as it is)."""
    tools = [
        {
            "index": index,
            "id": f"call_{name}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for index, (name, given) in enumerate(calls)
    ]
    return [chunk({"tool_calls": tools}), chunk({}, "tool_calls")]


def whole(chunks: list[str]) -> list[str]:
    """The same turn as the one answer to a body that does not ask for a stream."""
    message: Frame = {"role": "assistant", "content": None}
    for text in chunks:
        delta = json.loads(text)["choices"][0]["delta"]
        if "content" in delta:
            message["content"] = (message["content"] or "") + delta["content"]
        message |= {"tool_calls": delta["tool_calls"]} if "tool_calls" in delta else {}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return [json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})]


@dataclass
class Outcome:
    """All frames of one call, in order; the last is `ended`."""

    frames: list[Frame]

    @property
    def ended(self) -> Frame:
        return self.frames[-1]

    @property
    def result(self) -> Any:
        assert "result" in self.ended, self.ended
        return self.ended["result"]

    @property
    def error(self) -> Frame:
        assert "error" in self.ended, self.ended
        return self.ended["error"]

    def deltas(self, kind: str = "content") -> list[str]:
        return [frame[kind] for frame in self.frames if frame["type"] == "delta" and kind in frame]

    def asks(self, what: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["type"] == "ask" and frame["what"] == what]

    @property
    def bodies(self) -> list[Frame]:
        return [ask["body"] for ask in self.asks("model")]


Turn = list[str] | Failed
Tool = Callable[[Frame], Frame]


class Gateway:
    """One worker, and the gateway's end of its socket."""

    def __init__(self, files: dict[str, str], *, before: str = "", timeout: float = 30) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.root = Path(os.path.realpath(self._folder.name))
        for name, text in files.items():
            self.write(name, text)
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(timeout)
        settings = {"root": str(self.root), "venv": None, "tracing": False, "sandbox": None}
        command = [sys.executable, "-c", _SERVE.format(before=before), str(theirs.fileno()), json.dumps(settings)]
        environment = {**os.environ, "PYTHONPATH": str(WORKER), "PYTHONDONTWRITEBYTECODE": "1"}
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            cwd=self.root,
            env=environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        theirs.close()
        self._reader = self._socket.makefile("rb")
        self._last_call = 0
        self.ready = self.receive()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def close(self) -> None:
        """Hang up; the worker must go by itself."""
        self._reader.close()
        self._socket.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise
        finally:
            self.log.close()
            self._folder.cleanup()

    def send(self, frame: Frame) -> None:
        body = json.dumps(frame).encode()
        self._socket.sendall(struct.pack(">I", len(body)) + body)

    def receive(self) -> Frame:
        try:
            (length,) = struct.unpack(">I", self._reader.read(4))
        except struct.error:
            self.log.seek(0)
            raise AssertionError(f"the worker hung up: {self.log.read().decode()}") from None
        return json.loads(self._reader.read(length))

    def load(self, agents: dict[str, str] | None = None, tools: list[str] | None = None) -> Frame:
        entries = [{"name": name, "target": target} for name, target in (agents or {}).items()]
        self.send({"type": "load", "agents": entries, "tools": tools or []})
        return self.receive()

    def start_run(self, agent: str, **fields: Any) -> int:
        self._last_call += 1
        frame: Frame = {
            "type": "run",
            "call": self._last_call,
            "agent": agent,
            "model": "the-model",
            "messages": [{"role": "user", "content": "hello"}],
            "max_turns": 9,
            "tools": [],
            "instructions": None,
            "settings": {},
            "review": False,
            "parallel_tool_calls": True,
            "context": {"run": "r1", "agent": agent, "key": "k1", "user": "u1", "session": "s1"},
        }
        self.send(frame | fields)
        return self._last_call

    def start_call(self, function: str, arguments: Any) -> int:
        self._last_call += 1
        self.send({"type": "call", "call": self._last_call, "function": function, "arguments": arguments})
        return self._last_call

    def cancel(self, call: int) -> None:
        self.send({"type": "cancel", "call": call})

    def tasks(self) -> int:
        """How many calls are alive, by a ping."""
        self.send({"type": "ping", "n": 7})
        while (frame := self.receive())["type"] != "pong":
            pass
        return frame["tasks"]

    def run(self, agent: str, *turns: Turn, answers: dict[str, Tool] | None = None, **fields: Any) -> Outcome:
        """Run to the end. The model says the turns; `answers` replaces those of `tool`, `before_tool`, `after_tool`."""
        return self.finish(self.start_run(agent, **fields), *turns, answers=answers)

    def call(self, function: str, arguments: Any) -> Outcome:
        return self.finish(self.start_call(function, arguments))

    def finish(self, call: int, *turns: Turn, answers: dict[str, Tool] | None = None) -> Outcome:
        left = list(turns)
        frames: list[Frame] = []
        while True:
            frame = self.receive()
            if frame.get("call") != call:
                continue
            frames.append(frame)
            if frame["type"] == "ended":
                return Outcome(frames)
            if frame["type"] == "ask" and frame["what"] == "model":
                assert left, f"the model was asked once more than the script knows: {frame['body']}"
                self.say(frame["ask"], left.pop(0))
            elif frame["type"] == "ask":
                answer = {**DEFAULT_ANSWERS, **(answers or {})}[frame["what"]](frame)
                self.send({"type": "answer", "ask": frame["ask"], **answer})

    def say(self, ask: int, turn: Turn) -> None:
        """Answer one model call."""
        for data in turn.chunks if isinstance(turn, Failed) else turn:
            self.send({"type": "chunk", "ask": ask, "data": data})
        if isinstance(turn, Failed):
            self.send({"type": "failed", "ask": ask, "status": turn.status, "error": turn.error})
        else:
            self.send({"type": "done", "ask": ask})


DEFAULT_ANSWERS: dict[str, Tool] = {
    "tool": lambda ask: {"content": f"{ask['name']} of the gateway", "is_error": False},
    "before_tool": lambda ask: {"arguments": json.loads(ask["arguments"])},
    "after_tool": lambda ask: {"content": ask["content"], "is_error": ask["is_error"]},
}


class SharedGatewayTest(unittest.TestCase):
    """Tests that share one worker. Each leaves nothing running in it."""

    FILES: dict[str, str]
    AGENTS: dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.gateway = Gateway(cls.FILES)
        loaded = cls.gateway.load(cls.AGENTS)
        assert not any(loaded["agents"].values()), loaded

    @classmethod
    def tearDownClass(cls) -> None:
        cls.gateway.close()

    def tearDown(self) -> None:
        self.assertEqual(self.gateway.tasks(), 0)
