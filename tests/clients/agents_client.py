"""The OpenAI Agents SDK as a client, over both of OpenAI's APIs: BASE_URL and KEY are its arguments. Fails on the first thing that is wrong.

The gateway's agent is the model of an agent that runs here, with a tool of its own; the gateway's tools stay the gateway's.
"""

import asyncio
import sys

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

BASE_URL, KEY = sys.argv[1:]
set_tracing_disabled(True)
client = AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=30)
MODELS = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
painted = []


@function_tool
def paint(what: str) -> str:
    """Paints."""
    painted.append(what)
    return "blue"


class Weather(BaseModel):
    """What the structured answer holds."""

    city: str
    sunny: bool


def agent(api, **more):
    model = MODELS[api](model="Assistant", openai_client=client)
    settings = ModelSettings(include_usage=True)
    return Agent(name="Outer", instructions="Be kind.", model=model, model_settings=settings, **more)


def check(result, expected, n_painted):
    assert result.final_output == expected, result.final_output
    assert painted == ["sky"] * n_painted, painted
    painted.clear()
    usage = result.context_wrapper.usage
    assert usage.total_tokens > 0, usage


async def text(api):
    check(await Runner.run(agent(api), "hello"), "It is sunny.", 0)


async def text_streamed(api):
    result = Runner.run_streamed(agent(api), "hello")
    pieces = []
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            pieces.append(event.data.delta)
    assert "".join(pieces) == "It is sunny." and len(pieces) > 1, pieces
    check(result, "It is sunny.", 0)


async def tool(api):
    """A tool of the client's; the same model turn also asks for one of the gateway's."""
    check(await Runner.run(agent(api, tools=[paint]), "hello"), "Painted.", 1)


async def tool_streamed(api):
    result = Runner.run_streamed(agent(api, tools=[paint]), "hello")
    names = [event.name async for event in result.stream_events() if event.type == "run_item_stream_event"]
    assert "tool_output" in names and names[-1] == "message_output_created", names
    check(result, "Painted.", 1)


async def structured(api):
    result = await Runner.run(agent(api, output_type=Weather), "hello")
    assert result.final_output == Weather(city="Paris", sunny=True), result.final_output


async def second_turn(api):
    """The SDK's own record of the first turn is taken as the next one's input."""
    first = await Runner.run(agent(api), "one")
    again = [*first.to_input_list(), {"role": "user", "content": "two"}]
    check(await Runner.run(agent(api), again), "Second.", 0)


async def by_id(api):
    """With the gateway's record in its place, over a tool call, too."""
    first = await Runner.run(agent(api, tools=[paint]), "hello", auto_previous_response_id=True)
    check(first, "Painted.", 1)
    second = await Runner.run(agent(api), "two", previous_response_id=first.last_response_id)
    check(second, "Second.", 0)


async def main():
    for api in MODELS:
        scenarios = [text, text_streamed, tool, tool_streamed, structured, second_turn]
        for scenario in [*scenarios, by_id] if api == "responses" else scenarios:
            await scenario(api)
            print(api, scenario.__name__, "ok")


asyncio.run(main())
