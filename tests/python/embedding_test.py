"""The modules as the worker's binary loads them: from text, one after another, with no package on disk."""

from __future__ import annotations

import re
import unittest

from fake_gateway import WORKER, Gateway

MODULES = (WORKER / "modules.rs").read_text().split("modules![", 1)[1].split("]", 1)[0]
PACKAGE, *ORDER = re.findall(r'"(\w+)"', MODULES)
"""As the binary has it: the package itself, then its modules, each of which needs only those before it."""

LOAD_FROM_TEXT = f"""
import types
sys.path = [folder for folder in sys.path if folder != {str(WORKER)!r}]
for name in ["", *{ORDER!r}]:
    file = f"moongate_worker/{{name or '__init__'}}.py"
    with open(f"{WORKER}/{{file}}") as text:
        code = compile(text.read(), file, "exec")
    full = f"moongate_worker.{{name}}" if name else "moongate_worker"
    sys.modules[full] = module = types.ModuleType(full)
    exec(code, vars(module))
"""

CODE = """
import moongate_worker.main


def fails() -> None:
    raise ValueError(moongate_worker.main.__name__)
"""


class EmbeddingTest(unittest.TestCase):
    def test_the_order_names_every_module(self) -> None:
        files = {path.stem for path in (WORKER / "moongate_worker").glob("*.py")}
        self.assertEqual(files, {"__init__", *ORDER})
        self.assertEqual(PACKAGE, "__init__")

    def test_modules_load_in_their_order_and_stay_out_of_failures(self) -> None:
        gateway = Gateway({"own/code.py": CODE}, before=LOAD_FROM_TEXT)
        self.addCleanup(gateway.close)
        loaded = gateway.load(tools=["own.code:fails"])
        self.assertEqual(loaded["files"], [str(gateway.root / "own/code.py")])
        error = gateway.call("own.code:fails", {}).error
        self.assertEqual((error["file"], error["line"]), ("own/code.py", 6))
        error = gateway.call("own.code:fails", []).error
        self.assertEqual((error["kind"], error["file"]), ("arguments", None))

    def test_every_module_says_its_purpose_first_and_stays_short(self) -> None:
        for path in (WORKER / "moongate_worker").glob("*.py"):
            lines = path.read_text().splitlines()
            self.assertTrue(lines[0].startswith('"""') and lines[0].endswith('."""'), path)
            self.assertLessEqual(len(lines), 300, path)
