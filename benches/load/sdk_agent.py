"""The agent of the `sdk` bench, and what runs it without a gateway: the Agents SDK in plain Python.

The gateway loads `agent` and `lookup`. As a program: BASE_URL and CONNECTIONS are the arguments, each line of standard
input is a number of runs to make, and `done` is printed after them.
"""

import asyncio
import sys

from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool


def lookup(query: str) -> str:
    """Looks a fact up.

    Args:
        query: What about.
    """
    return '{"fact":"the moon is made of rock"}'


agent = Agent(
    name="bench",
    instructions="You are a concise and helpful assistant.",
    tools=[function_tool(lookup)],
)


async def run(model, question):
    result = Runner.run_streamed(agent, question, run_config=RunConfig(model=model, tracing_disabled=True))
    text = []
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text.append(event.data.delta)
    assert "".join(text).startswith("word1 "), text


async def main(base_url, connections):
    from openai import AsyncOpenAI

    model = OpenAIChatCompletionsModel("mock-model", AsyncOpenAI(base_url=base_url, api_key="none"))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        left = iter(range(int(line)))

        async def connection():
            for _ in left:
                await run(model, "hello")

        await asyncio.gather(*(connection() for _ in range(connections)))
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
