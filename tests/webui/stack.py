"""Starts moongate and Open WebUI, each in a folder of its own with its log, and ends both."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

KEY = "key-of-webui"
AGENT = "weather-guide"
INSTRUCTIONS = "You are a guide who looks at the sky."

CONFIG = """
default_upstream: lm
upstreams:
  lm: {{ base_url: "{model_url}" }}
mcp_servers:
  demo: {{ transport: stdio, command: moongate, args: [demo-tools] }}
agents:
  - name: {agent}
    description: Knows the weather.
    upstream: lm
    model: {model}
    instructions: {instructions}
    tools:
      - {{ name: get_weather, provider: mcp, mcp_server: demo }}
auth:
  keys:
    - {{ id: webui, key: {key}, client: openwebui }}
"""

# Open WebUI without anything that it would look for on the network.
QUIET = {
    "WEBUI_AUTH": "False",
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "ENABLE_VERSION_UPDATE_CHECK": "False",
    "ENABLE_OLLAMA_API": "False",
    "ENABLE_EVALUATION_ARENA_MODELS": "False",
    "RAG_EMBEDDING_ENGINE": "openai",
    "BYPASS_EMBEDDING_AND_RETRIEVAL": "True",
    "RESET_CONFIG_ON_START": "True",
    "ENABLE_FORWARD_USER_INFO_HEADERS": "True",
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    "WEBUI_SECRET_KEY": "of this test alone",
}


class Stack:
    """Both processes; use it with `with`."""

    def __init__(self, folder, moongate, webui, model):
        self._running, self._folder = [], Path(folder)
        (self._folder / "data").mkdir(parents=True)
        self._moongate, self._webui, self._model = moongate, webui, model
        self.gateway, self.page = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"

    def __enter__(self):
        try:
            self._start_moongate()
            self._start_webui()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name, process in reversed(self._running):
            # The whole group: what it has started ends with it.
            try:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(10)
            except ProcessLookupError:
                pass
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _start_moongate(self):
        config = self._folder / "gateway.yaml"
        config.write_text(
            CONFIG.format(model_url=self._model.url, model="tiny-chat", agent=AGENT, instructions=INSTRUCTIONS, key=KEY)
        )
        command = [self._moongate, "serve", "--config", config, "--listen", self.gateway.removeprefix("http://")]
        self._run("moongate", command, {}, f"{self.gateway}/readyz", 30)

    def _start_webui(self):
        settings = QUIET | {
            "OPENAI_API_BASE_URL": f"{self.gateway}/v1",
            "OPENAI_API_KEY": KEY,
            "DATA_DIR": str(self._folder / "data"),
        }
        port = self.page.rsplit(":", 1)[1]
        self._run("open-webui", [self._webui, "serve", "--host", "127.0.0.1", "--port", port], settings, f"{self.page}/health", 240)

    def _run(self, name, command, settings, url, seconds):
        log = self._folder / f"{name}.log"
        # A proxy that somebody has set for the world outside is not asked for this machine.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | settings
        with log.open("w") as out:
            process = subprocess.Popen(
                list(map(str, command)), cwd=self._folder, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._running.append((name, process))
        until = time.monotonic() + seconds
        while not answers(url):
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}:\n{tail(log)}")
            if time.monotonic() > until:
                raise AssertionError(f"{name} did not answer at {url} within {seconds} s:\n{tail(log)}")
            try:
                # Its end, or another look in a moment.
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                pass

    def logs(self):
        """The last lines of both, for whoever reads of a failure."""
        return "\n".join(f"--- {name}\n{tail(self._folder / f'{name}.log')}" for name, _ in self._running)


def answers(url):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return direct.open(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def tail(log, n_lines=25):
    return "\n".join(log.read_text(errors="replace").splitlines()[-n_lines:])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
