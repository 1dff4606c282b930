"""Loading agents and tools: what is found, and failures that say where to look."""

from __future__ import annotations

import os
import unittest

from fake_gateway import BARE, NO_SDK, Gateway, say

AGENT = """
    from agents import Agent

    def build_agent():
        return Agent(name="Fine")
"""

FILES = {
    "agents/fine.py": AGENT
    + """
    instance = Agent(name="An instance")

    async def build_later():
        return Agent(name="Later")
    """,
    "agents/syntax.py": "x = 1\ndef broken(:\n",
    "agents/needs.py": "import json\nimport pandas_is_not_here\n",
    "agents/raises.py": "def helper():\n    return 1 / 0\n\nhelper()\n",
    "agents/exits.py": "import sys\nsys.exit(3)\n",
    "agents/build_fails.py": "def build_agent():\n    raise ValueError('no key')\n",
    "agents/wrong.py": "\ndef build_agent():\n    return 'a string'\n\nvalue = 42\n",
    "agents/hosted.py": """
        from agents import Agent, WebSearchTool

        def build_agent():
            return Agent(name="Searcher", handoffs=[Agent(name="Inner", tools=[WebSearchTool()])])
    """,
    "agents/run.py": AGENT,
    "agents/handoff.py": AGENT,
    "agents/deep/er.py": AGENT,
    "agents/imports_own.py": "from helpers.missing import x\n",
    "agents/talks.py": """
        import asyncio
        from agents import Agent, Runner

        async def build_agent():
            await Runner.run(Agent(name="x"), "hello")
    """,
    "helpers/__init__.py": "",
    "agents/indirect.py": "import far.away\n",
    "far/away.py": "import far.broken\n",
    "far/broken.py": "def broken(:\n",
    "lib/tools.py": """
        def good(a: int, b: str = "x") -> str:
            '''Does good.

            Args:
                a: How much.
            '''
            return b * a

        def free(options: dict) -> str:
            '''Takes anything.'''
            return str(options)

        class NotATool:
            pass

        def no_schema(x: NotATool) -> str:
            return ""
    """,
}


class LoadTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.gateway = Gateway(FILES)
        targets = {
            "instance": "agents.fine:instance",
            "sync": "agents.fine:build_agent",
            "async": "agents.fine:build_later",
            "deep": "agents.deep.er:build_agent",
            "form": "agents.fine",
            "module": "agents.fime:build_agent",
            "package": "nowhere.fine:build_agent",
            "attribute": "agents.fine:build_agnet",
            "syntax": "agents.syntax:build_agent",
            "needs": "agents.needs:build_agent",
            "own": "agents.imports_own:build_agent",
            "raises": "agents.raises:build_agent",
            "exits": "agents.exits:build_agent",
            "build": "agents.build_fails:build_agent",
            "wrong": "agents.wrong:build_agent",
            "value": "agents.wrong:value",
            "hosted": "agents.hosted:build_agent",
            "reserved": "agents.run:build_agent",
            "export": "agents.handoff:build_agent",
            "talks": "agents.talks:build_agent",
            "indirect": "agents.indirect:x",
        }
        tools = ["good", "free", "NotATool", "no_schema", "missing"]
        cls.loaded = cls.gateway.load(targets, [f"lib.tools:{name}" for name in tools])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.gateway.close()

    def assert_failure(self, name: str, message: str, file: str | None = None, line: int | None = None) -> None:
        failure = self.loaded["agents"][name]
        self.assertIsNotNone(failure, name)
        self.assertRegex(failure["message"], message)
        self.assertEqual((failure["file"], failure["line"]), (file, line), failure)

    def test_ready_says_what_was_found(self) -> None:
        ready = self.gateway.ready
        self.assertEqual(ready["type"], "ready")
        self.assertEqual(ready["pid"], self.gateway.process.pid)
        self.assertIsNone(ready["sdk_error"])
        self.assertRegex(ready["sdk"], r"^\d+\.\d+")

    def test_agents_are_built_by_any_of_the_forms(self) -> None:
        for name in ("instance", "sync", "async", "deep"):
            self.assertIsNone(self.loaded["agents"][name], name)

    def test_a_built_agent_runs(self) -> None:
        self.assertEqual(self.gateway.run("async", say("yes")).result, {"output": "yes", "last_agent": "Later"})

    def test_targets_that_name_nothing(self) -> None:
        self.assert_failure("form", "`agents.fine` is not of the form `module:attribute`")
        self.assert_failure("module", "no module `agents.fime` below the root; did you mean `fine`")
        self.assert_failure("package", "no module `nowhere.fine` below the root")
        self.assert_failure("attribute", "no `build_agnet`; did you mean `build_agent`", "agents/fine.py")

    def test_modules_that_cannot_be_imported(self) -> None:
        self.assert_failure("syntax", "importing `agents.syntax` failed: SyntaxError", "agents/syntax.py", 2)
        self.assert_failure("needs", "No module named 'pandas_is_not_here'; install it into /", "agents/needs.py", 2)
        self.assert_failure("indirect", "SyntaxError", "far/broken.py", 1)
        self.assert_failure("own", "No module named 'helpers.missing'", "agents/imports_own.py", 1)
        self.assert_failure("raises", "ZeroDivisionError: division by zero", "agents/raises.py", 2)
        self.assert_failure("exits", "importing `agents.exits` failed: SystemExit: 3", "agents/exits.py", 2)

    def test_callables_that_build_no_agent(self) -> None:
        self.assert_failure(
            "build", "`agents.build_fails:build_agent` failed: ValueError: no key", "agents/build_fails.py", 2
        )
        self.assert_failure("wrong", "returned a `str`, not an Agent", "agents/wrong.py", 2)
        self.assert_failure("value", "is a `int`, not an Agent")
        self.assert_failure("talks", "only while a run is going on", "agents/talks.py", 6)

    def test_hosted_tools_are_refused_anywhere_in_the_graph(self) -> None:
        self.assert_failure("hosted", "agent `Inner` uses `WebSearchTool`, which runs at OpenAI's Responses API")

    def test_names_of_the_sdk_are_refused(self) -> None:
        self.assert_failure("reserved", "the Agents SDK has a module of that name; rename the file", "agents/run.py")
        self.assert_failure("export", "the Agents SDK has a module of that name; rename the file", "agents/handoff.py")

    def test_tools_are_described(self) -> None:
        good = self.loaded["tools"]["lib.tools:good"]
        self.assertEqual((good["name"], good["description"]), ("good", "Does good."))
        self.assertEqual(good["parameters"]["properties"]["a"]["description"], "How much.")
        self.assertEqual(good["parameters"]["required"], ["a"])
        self.assertIs(good["parameters"]["additionalProperties"], False)

    def test_a_plain_dict_is_any_object(self) -> None:
        self.assertEqual(
            self.loaded["tools"]["lib.tools:free"]["parameters"]["properties"]["options"]["type"], "object"
        )

    def test_tools_that_are_none(self) -> None:
        failures = {name: tool.get("failure") for name, tool in self.loaded["tools"].items()}
        self.assertIn("neither a function nor a `function_tool`", failures["lib.tools:NotATool"]["message"])
        self.assertIn("cannot be described as JSON Schema", failures["lib.tools:no_schema"]["message"])
        self.assertEqual(failures["lib.tools:no_schema"]["line"], 17)
        self.assertIn("has no `missing`", failures["lib.tools:missing"]["message"])

    def test_files_are_the_projects_own(self) -> None:
        files = [os.path.relpath(file, self.gateway.root) for file in self.loaded["files"]]
        for name in (
            "agents/fine.py",
            "lib/tools.py",
            "helpers/__init__.py",
            "agents/syntax.py",
            "far/away.py",
            "far/broken.py",
        ):
            self.assertIn(name, files)
        self.assertFalse([file for file in files if file.startswith("..")])


class WithoutSdkTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        before = f"{NO_SDK}\nsys.meta_path.insert(0, Blocker())"
        own = "class Echo:\n    async def run(self, messages, context):\n        return messages[-1]['content']\n"
        cls.gateway = Gateway({"own/echo.py": own, "agents/sdk.py": AGENT, "own/sdk.py": AGENT}, before=before)
        targets = {"echo": "own.echo:Echo", "sdk": "own.sdk:build_agent"}
        cls.loaded = cls.gateway.load(targets, ["own.echo:Echo"])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.gateway.close()

    def test_ready_says_what_to_install(self) -> None:
        self.assertIsNone(self.gateway.ready["sdk"])
        self.assertIn("install `openai-agents` into", self.gateway.ready["sdk_error"])

    def test_agents_of_the_sdk_say_that_it_is_missing(self) -> None:
        failure = self.loaded["agents"]["sdk"]
        self.assertIn("`own.sdk` needs the Agents SDK: the Agents SDK is not installed", failure["message"])
        self.assertEqual((failure["file"], failure["line"]), ("own/sdk.py", 2))

    def test_tools_say_that_it_is_missing(self) -> None:
        self.assertIn("the Agents SDK is not installed", self.loaded["tools"]["own.echo:Echo"]["failure"]["message"])

    def test_other_objects_run(self) -> None:
        self.assertEqual(self.gateway.run("echo").result["output"], "hello")


PRETEND_OLD = """
import importlib.metadata
real = importlib.metadata.version
importlib.metadata.version = lambda name: "0.7.1" if name == "openai-agents" else real(name)
"""


class OldSdkTest(unittest.TestCase):
    def test_an_sdk_that_would_block_the_worker_is_refused(self) -> None:
        gateway = Gateway({"agents/fine.py": AGENT + '\n    instance = Agent(name="An instance")'}, before=PRETEND_OLD)
        self.addCleanup(gateway.close)
        why = "the Agents SDK 0.7.1 is too old: install `openai-agents` 0.8 or newer into"
        self.assertIsNone(gateway.ready["sdk"])
        self.assertIn(why, gateway.ready["sdk_error"])
        targets = {"built": "agents.fine:build_agent", "instance": "agents.fine:instance"}
        loaded = gateway.load(targets, ["agents.fine:build_agent"])
        for name, target in targets.items():
            self.assertIn(f"`{target}` needs the Agents SDK: {why}", loaded["agents"][name]["message"])
        self.assertIn(why, loaded["tools"]["agents.fine:build_agent"]["failure"]["message"])


class ReallyWithoutSdkTest(unittest.TestCase):
    """The same with nothing blocked but the place where packages are installed."""

    def test_the_root_owns_the_package_name(self) -> None:
        own = "class Echo:\n    async def stream(self, messages, context):\n        yield 'a'\n        yield 'b'\n"
        gateway = Gateway({"agents/echo.py": own}, before=BARE)
        self.addCleanup(gateway.close)
        self.assertEqual(gateway.load({"echo": "agents.echo:Echo"})["agents"], {"echo": None})
        self.assertEqual(gateway.run("echo").deltas(), ["a", "b"])
