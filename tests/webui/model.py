"""A model server that plays what the test needs, notes what it was asked, and sees when its reader leaves."""

import json
import select
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "tiny-chat"
# What a message must say to be answered by a stream that does not end by itself.
ENDLESS = "Count for ever"
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
TASKS = {
    '"title"': {"title": "A day in Paris"},
    '"tags"': {"tags": ["weather"]},
    '"follow_ups"': {"follow_ups": ["And tomorrow?"]},
}


class Model:
    """The server, with `asked`: the bodies of all chat requests so far; `left`: when the reader of an endless answer went."""

    def __init__(self):
        self.asked, self.left = [], []
        self._news = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"model": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def note(self, notes, entry):
        with self._news:
            notes.append(entry)
            self._news.notify_all()

    def wait(self, what, found, seconds=30):
        """What `found` gives of this model, as soon as it gives anything."""
        with self._news:
            if not self._news.wait_for(lambda: found(self), timeout=seconds):
                raise AssertionError(f"the model waited {seconds} s for {what}; it was asked {json.dumps(self.asked)[-3000:]}")
            return found(self)

    def stop(self):
        self._server.shutdown()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.whole({"object": "list", "data": [{"id": NAME, "object": "model", "created": 0, "owned_by": "test"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.model.note(self.model.asked, body)
        text = last_words(body)
        calls = [CALL] if wants_tool(body) else None
        if not body.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return self.whole({"id": "c", "object": "chat.completion", "created": 0, "model": NAME, "choices": [choice]})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        if calls:
            self.piece({"role": "assistant", "content": "Let me look outside. "})
            self.piece({"tool_calls": calls})
            return self.end("tool_calls")
        for word in text.split(" "):
            self.piece({"content": word + " "})
        if text.startswith("One, two"):
            # Nobody says anything on this connection until it is closed.
            select.select([self.connection], [], [], 60)
            return self.model.note(self.model.left, time.monotonic())
        return self.end("stop")

    def whole(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def piece(self, delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": NAME, "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def end(self, finish):
        self.piece({}, finish)
        self.wfile.write(b"data: [DONE]\n\n")


def last_words(body):
    """The text that answers this request."""
    last = body["messages"][-1]
    if is_task(body):
        return next((json.dumps(answer) for key, answer in TASKS.items() if key in last["content"]), "{}")
    if last["role"] == "tool":
        return f"Here is what I found:\n\n- **Paris**: {last['content']}\n\nTake a light jacket."
    if ENDLESS in last["content"]:
        return "One, two, three, four, five,"
    return "Hello from the plain model. It has **no** tools."


def wants_tool(body):
    """Open WebUI offers tools of its own to every model: those are left alone."""
    last, names = body["messages"][-1], [tool["function"]["name"] for tool in body.get("tools", [])]
    return last["role"] == "user" and ENDLESS not in last["content"] and CALL["function"]["name"] in names


def is_task(body):
    """A title, tags or follow-ups, which Open WebUI asks for by itself."""
    content = body["messages"][-1].get("content")
    return isinstance(content, str) and content.lstrip().startswith("### Task:")
