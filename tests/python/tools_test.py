"""Calls of Python functions as tools: arguments, results, errors, and functions nobody named at load."""

from __future__ import annotations

import unittest

from fake_gateway import Gateway

TOOLS = '''
    import asyncio, dataclasses, datetime, decimal, sys, threading
    from agents import RunContextWrapper, function_tool
    from pydantic import BaseModel, Field

    def thread(n: int, word: str = "x") -> str:
        """Runs on a thread."""
        return word * n + (" on a tool thread" if threading.current_thread().name == "moongate-tool" else "")

    async def on_loop(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    def with_context(context: RunContextWrapper[None], n: int) -> int:
        return n + context.usage.requests

    @function_tool
    def decorated(n: int) -> int:
        return n * 2

    @function_tool(failure_error_function=None)
    def decorated_fails(n: int) -> int:
        raise ValueError("inside")

    def keywords(*, low: int, rest: list[int] = Field(default=[1])) -> int:
        return low + sum(rest)

    class Point(BaseModel):
        x: int
        at: datetime.date

    @dataclasses.dataclass
    class Pair:
        left: int
        right: decimal.Decimal

    def returns(what: str) -> object:
        return {"none": None, "text": "plain text", "number": 1.5, "list": [1, {"a": None}], "bool": True,
                "model": Point(x=1, at=datetime.date(2024, 1, 2)), "dataclass": Pair(1, decimal.Decimal("2.50")),
                "nan": float("nan"), "object": object(), "nested": {"x": [object()]}, "bytes": b"\\xff",
                "surrogate": "a\\ud800b"}[what]

    def raises() -> None:
        raise LookupError("not found")

    class Untold(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    def raises_untold() -> None:
        raise Untold

    def exits() -> None:
        sys.exit(2)

    def stops() -> None:
        raise StopIteration("over")

    async def exits_async() -> None:
        raise KeyboardInterrupt

    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    def big() -> str:
        return "x" * (64 * 1024 * 1024)

    def noisy() -> str:
        print("noise on stdout")
        sys.stdout.flush()
        return "quiet"
'''


class ToolsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.gateway = Gateway({"agents/tools/calc.py": TOOLS, "agents/tools/broken.py": "import nothing_like_it\n"})
        names = ["thread", "on_loop", "with_context", "decorated", "keywords"]
        cls.loaded = cls.gateway.load(tools=[f"agents.tools.calc:{name}" for name in names])["tools"]

    @classmethod
    def tearDownClass(cls) -> None:
        cls.gateway.close()

    def tearDown(self) -> None:
        self.assertEqual(self.gateway.tasks(), 0)

    def value(self, name: str, **arguments: object) -> object:
        return self.gateway.call(f"agents.tools.calc:{name}", arguments).result["value"]

    def content(self, name: str, **arguments: object) -> str:
        return self.gateway.call(f"agents.tools.calc:{name}", arguments).result["content"]

    def error(self, name: str, arguments: object) -> dict:
        return self.gateway.call(f"agents.tools.calc:{name}", arguments).error

    def test_kinds_of_functions(self) -> None:
        self.assertEqual(self.value("thread", n=2), "xx on a tool thread")
        self.assertEqual(self.value("on_loop", n=2), 3)
        self.assertEqual(self.value("with_context", n=2), 2)
        self.assertEqual(self.value("decorated", n=2), 4)
        self.assertEqual(self.value("keywords", low=1, rest=[2, 3]), 6)

    def test_a_context_is_not_a_parameter(self) -> None:
        self.assertEqual(list(self.loaded["agents.tools.calc:with_context"]["parameters"]["properties"]), ["n"])

    def test_results_as_text_and_as_json(self) -> None:
        expected = {
            "none": ("", None),
            "text": ("plain text", "plain text"),
            "number": ("1.5", 1.5),
            "bool": ("true", True),
            "list": ('[1,{"a":null}]', [1, {"a": None}]),
            "model": ('{"x":1,"at":"2024-01-02"}', {"x": 1, "at": "2024-01-02"}),
            "dataclass": ('{"left":1,"right":"2.50"}', {"left": 1, "right": "2.50"}),
            "surrogate": ("a?b", "a?b"),
        }
        for what, (content, value) in expected.items():
            with self.subTest(what):
                result = self.gateway.call("agents.tools.calc:returns", {"what": what}).result
                self.assertEqual((result["content"], result["value"]), (content, value))

    def test_results_that_are_not_json(self) -> None:
        for what, name in [("object", "object"), ("nan", "float"), ("nested", "dict"), ("bytes", "bytes")]:
            with self.subTest(what):
                error = self.error("returns", {"what": what})
                self.assertEqual(error["kind"], "output")
                self.assertIn(f"`returns` returned a `{name}`, which cannot be written as JSON", error["message"])

    def test_results_too_large_to_send(self) -> None:
        error = self.error("big", {})
        self.assertEqual(error["kind"], "output")
        self.assertIn("the result cannot be sent", error["message"])

    def test_arguments_that_a_model_can_correct(self) -> None:
        faults = {
            "n: Field required": {},
            "n: Input should be a valid integer": {"n": "many"},
            "word: Input should be a valid string": {"n": 1, "word": 5},
            "must be a JSON object, not a `list`": [1],
        }
        for message, arguments in faults.items():
            with self.subTest(message):
                error = self.error("thread", arguments)
                self.assertEqual(error["kind"], "arguments")
                self.assertIn("`thread` was not called", error["message"])
                self.assertIn(message, error["message"])

    def test_exceptions_tell_file_and_line(self) -> None:
        lines = (self.gateway.root / "agents/tools/calc.py").read_text().splitlines()
        faults = {
            "raises": "LookupError: not found",
            "exits": "SystemExit(2)",
            "exits_async": "KeyboardInterrupt",
            "stops": "StopIteration",
            "cancels_itself": "CancelledError",
        }
        for name, message in faults.items():
            with self.subTest(name):
                error = self.error(name, {})
                self.assertEqual((error["kind"], error["file"]), ("exception", "agents/tools/calc.py"))
                self.assertIn(message, error["message"])
                self.assertRegex(lines[error["line"] - 1], "raise|exit")
                self.assertIn("calc.py", error["traceback"])

    def test_an_error_that_cannot_be_told_is_no_cancellation(self) -> None:
        error = self.error("raises_untold", {})
        self.assertEqual(error["kind"], "exception")
        self.assertIn("telling how failed too", error["message"])

    def test_a_decorated_tool_words_its_errors_itself(self) -> None:
        self.assertIn("error", self.content("decorated", n="many"))
        error = self.error("decorated_fails", {"n": 1})
        self.assertEqual((error["kind"], error["message"]), ("exception", "ValueError: inside"))

    def test_functions_are_found_at_the_call(self) -> None:
        self.gateway.write("late/on.py", "def now(n: int) -> int:\n    return n\n")
        self.assertEqual(self.gateway.call("late.on:now", {"n": 3}).result["value"], 3)
        error = self.gateway.call("late.on:never", {}).error
        self.assertEqual((error["kind"], error["file"]), ("load", "late/on.py"))
        error = self.gateway.call("agents.tools.broken:x", {}).error
        self.assertEqual((error["kind"], error["file"], error["line"]), ("load", "agents/tools/broken.py", 1))

    def test_noise_on_stdout_is_harmless(self) -> None:
        self.assertEqual(self.value("noisy"), "quiet")
