"""Open WebUI's pages as a person uses them: choose a model, write, read, stop. What the pages are made of is known here alone."""

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

# A busy machine is slow, which is no fault of the page's.
PATIENCE = 60_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browser(url):
    """A page of a headless Chromium: CHROMIUM, or the machine's, or Playwright's own."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    # Chromium's sandbox does not work for root.
    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=options)
        page = chromium.new_page(viewport={"width": 1280, "height": 800}, locale="en-US")
        page.set_default_timeout(PATIENCE)
        # The news of a release lie over the first page.
        news = page.get_by_role("button", name="Okay, Let's Go!")
        page.add_locator_handler(news, lambda: news.click())
        try:
            yield Page(page, url)
        finally:
            chromium.close()


class Page:
    """What a person can see and do."""

    def __init__(self, page, url):
        self._page, self._url = page, url

    def open(self):
        """A new chat."""
        self._page.goto(self._url)
        self._page.locator("#chat-input").click()

    def reload(self):
        self._page.reload()

    def list_models(self, *names):
        """Opens the list of models and sees these in it, and no others."""
        self._page.locator("#model-selector-model-button").click()
        for name in names:
            expect(self._option(name)).to_be_visible()
        expect(self._page.locator("#model-selector-list").get_by_role("option")).to_have_count(len(names))

    def choose(self, name):
        self._page.locator("#model-selector-model-button").click()
        self._option(name).click()
        expect(self._page.locator("#model-selector-model-button")).to_have_text(re.compile(name))

    def _option(self, name):
        return self._page.locator(f'#model-selector-list [role="option"][data-value="{name}"]')

    def write(self, text):
        self._page.locator("#chat-input").click()
        self._page.keyboard.type(text)
        self._page.locator("#send-message-button").click()

    def _last(self):
        return self._page.locator(".chat-assistant").last

    def reads(self, text):
        """The last answer shows this."""
        expect(self._last()).to_contain_text(text)

    def finished(self, n_answers):
        """So many answers are there, and the last can be rated: it has ended."""
        expect(self._page.locator(".chat-assistant")).to_have_count(n_answers)
        expect(self._page.get_by_role("button", name="Good Response")).to_have_count(n_answers)

    def conversation(self):
        """All that the chat shows, as text."""
        return self._page.locator("#messages-container .message-listitem").all_inner_texts()

    def no_markup(self):
        """Nothing of a card's markup is shown as text."""
        text = self._last().inner_text()
        assert not re.search(r"<details|</details|&quot;|&#|tool_calls|Tool Executed", text), text

    def title(self, text):
        expect(self._page).to_have_title(re.compile(re.escape(text)))
        expect(self._page.locator("#chat-container").get_by_text(text, exact=True).first).to_be_visible()

    def status(self, *lines):
        """The status line, unfolded, shows these."""
        toggle = self._last().get_by_role("button", name="Toggle status history")
        toggle.click()
        for line in lines:
            expect(self._last().locator(".status-description").filter(has_text=line).first).to_be_visible()
        toggle.click()

    def unfold_card(self, tool, *texts):
        """The tool's card is one of Open WebUI's own, and holds what was asked and answered."""
        card = self._last().get_by_text(f"View Result from {tool}")
        expect(card).to_be_visible()
        card.click()
        for text in texts:
            expect(self._last().locator(f'[id$="-tc"]')).to_contain_text(text)

    def stop(self):
        self._page.get_by_role("button", name="Stop").click()

    def follow_up(self, text):
        """A suggestion for the next message is offered, the last thing to come."""
        expect(self._page.get_by_role("button", name=f"Follow up: {text}")).to_be_visible()

    def picture(self, file):
        """The page in few colours, without toasts and carets."""
        self._page.screenshot(path=file, animations="disabled", caret="hide", style="[data-sonner-toaster] { display: none }")
        with Image.open(file) as whole:
            few = whole.convert("RGB").quantize(128, dither=Image.Dither.NONE)
        few.save(file, optimize=True)

    def keep(self, folder):
        """Page and picture for whoever looks for what went wrong."""
        self._page.screenshot(path=Path(folder) / "failure.png")
        (Path(folder) / "failure.html").write_text(self._page.content())
