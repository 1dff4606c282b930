"""Open WebUI in front of moongate, driven by a browser: models, chats, a tool's card, titles, stop, reload.

FOLDER MOONGATE OPEN_WEBUI are the arguments: where logs and failures go, and the two programs. PICTURES=DIR keeps pictures for the documentation.
"""

import os
import re
import shutil
import sys
import time
from pathlib import Path

from browser import browser
from model import ENDLESS, NAME, Model, is_task
from stack import AGENT, INSTRUCTIONS, Stack

# How long it may take from the click on Stop until the model's server sees its connection closed.
SOON = 2
QUESTION = "How is the weather in Paris?"
WEATHER = re.compile(r"in Paris, -?\d+ °C")


def texts(body, role):
    return [message["content"] for message in body["messages"] if message["role"] == role]


class Test:
    """The steps, in their order."""

    def __init__(self, page, model, pictures):
        self.page, self.model, self.pictures = page, model, pictures

    def picture(self, name):
        if self.pictures:
            self.page.picture(self.pictures / f"{name}.png")

    def models(self):
        """The plain model and the agent are in the list of models."""
        self.page.open()
        self.page.list_models(AGENT, NAME)
        self.picture("models")

    def plain(self):
        """A plain model answers, and was asked nothing but the message."""
        self.page.open()
        self.page.choose(NAME)
        self.page.write("Hello")
        self.page.reads("Hello from the plain model. It has no tools.")
        self.page.finished(1)
        chat = self.model.wait("the chat", lambda model: [body for body in model.asked if not is_task(body)])
        assert len(chat) == 1 and INSTRUCTIONS not in str(chat), chat
        # The last of the tasks of this chat, so that none of them is taken for the next chat's.
        self.page.follow_up("And tomorrow?")

    def agent(self):
        """The agent calls its tool: a status line, a card that unfolds, the answer below it."""
        self.before = len(self.model.asked)
        self.page.open()
        self.page.choose(AGENT)
        self.page.write(QUESTION)
        self.page.reads("Take a light jacket.")
        self.page.finished(1)
        self.page.status("Calling get_weather", "Called get_weather")
        self.page.no_markup()
        self.page.follow_up("And tomorrow?")
        self.picture("answer")
        self.page.unfold_card("get_weather", re.compile("city"), WEATHER)
        self.picture("tool")
        first, second = [body for body in self.model.asked[self.before :] if not is_task(body)]
        assert [tool["function"]["name"] for tool in first["tools"]] == ["get_weather"], first["tools"]
        assert texts(first, "system") == [INSTRUCTIONS], first
        assert WEATHER.search(texts(second, "tool")[0]), second

    def title(self):
        """The chat has its title, and the agent did not run for it: no tools, no instructions."""
        self.page.title("A day in Paris")
        tasks = [body for body in self.model.asked[self.before :] if is_task(body)]
        assert any('"title"' in texts(body, "user")[0] for body in tasks), tasks
        for body in tasks:
            assert "tools" not in body and len(body["messages"]) == 1 and INSTRUCTIONS not in str(body), body
            assert body["model"] == NAME, body

    def reload(self):
        """A reload shows the chat as it was."""
        self.page.reload()
        self.page.reads("Take a light jacket.")
        self.page.finished(1)
        self.page.title("A day in Paris")
        self.page.status("Calling get_weather", "Called get_weather")
        self.page.no_markup()
        self.page.unfold_card("get_weather", re.compile("city"), WEATHER)
        assert any(QUESTION in text for text in self.page.conversation()), self.page.conversation()

    def second_turn(self):
        """The next turn sends the answer of the first without its card."""
        before = len(self.model.asked)
        self.page.write("Are you sure?")
        self.page.finished(2)
        self.page.reads("Take a light jacket.")
        chats = [body for body in self.model.asked[before:] if not is_task(body)]
        assert len(chats) == 2, chats
        assert texts(chats[0], "user") == [QUESTION, "Are you sure?"], chats[0]
        (answer,) = texts(chats[0], "assistant")
        assert answer.startswith("Let me look outside.") and answer.rstrip().endswith("Take a light jacket."), answer
        assert not re.search("<details|get_weather|Tool Executed|summary>", answer), answer

    def stop_agent(self):
        """Stop in an agent's answer closes the connection to the model."""
        self._stop(AGENT)

    def stop_plain(self):
        """Stop in a plain model's answer does, too."""
        self._stop(NAME)

    def _stop(self, name):
        n_left = len(self.model.left)
        self.page.open()
        self.page.choose(name)
        self.page.write(ENDLESS)
        self.page.reads("One, two, three, four, five,")
        clicked = time.monotonic()
        self.page.stop()
        self.model.wait("the end of the endless answer", lambda model: len(model.left) > n_left, 10)
        took = self.model.left[-1] - clicked
        assert took < SOON, f"the model saw its reader leave {took:.1f} s after the click"
        print(f"     the model's connection was closed {took * 1000:.0f} ms after the click")
        self.page.reads("One, two, three, four, five,")


def main():
    folder, moongate, webui = (Path(argument).resolve() for argument in sys.argv[1:])
    shutil.rmtree(folder, ignore_errors=True)
    pictures = os.environ.get("PICTURES")
    pictures = Path(pictures).resolve() if pictures else None
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
    steps = [Test.models, Test.plain, Test.agent, Test.title, Test.reload, Test.second_turn, Test.stop_agent, Test.stop_plain]
    model = Model()
    print("starting moongate and Open WebUI", flush=True)
    begun = time.monotonic()
    with Stack(folder, moongate, webui, model) as stack, browser(stack.page) as page:
        print(f"ok   both answer ({time.monotonic() - begun:.1f} s)", flush=True)
        test = Test(page, model, pictures)
        for n, step in enumerate(steps):
            begun = time.monotonic()
            try:
                step(test)
            except Exception as error:
                page.keep(folder)
                print(f"FAIL {step.__doc__}\n{error}\n{stack.logs()}\nThe page as it was: {folder.name}/failure.png and failure.html")
                print(f"{n} passed, 1 failed, {len(steps) - n - 1} ignored")
                return 1
            print(f"ok   {step.__doc__} ({time.monotonic() - begun:.1f} s)", flush=True)
    model.stop()
    print(f"{len(steps)} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
