"""The official Python SDK against a gateway: BASE_URL and KEY are its arguments. Fails on the first thing that is not as it should be."""

import sys

import openai
from openai import OpenAI
from pydantic import BaseModel

BASE_URL, KEY = sys.argv[1:]
HELLO = [{"role": "user", "content": "hello"}]
PAINT = {
    "type": "function",
    "function": {
        "name": "paint",
        "description": "Paints.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"what": {"type": "string"}},
            "required": ["what"],
            "additionalProperties": False,
        },
    },
}
client = OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=30)


class Weather(BaseModel):
    """What the structured answer holds."""

    city: str
    sunny: bool


def models():
    ids = [model.id for model in client.models.list()]
    assert {"Assistant", "scripted"} <= set(ids), ids
    assert client.models.retrieve("Assistant").id == "Assistant"


def plain():
    answer = client.chat.completions.create(model="scripted", messages=HELLO)
    assert answer.choices[0].message.content == "plain words", answer
    assert answer._request_id, "the SDK knows the request's id"


def plain_stream():
    text, usage = "", None
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(model="scripted", messages=HELLO, stream=True, stream_options=options):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text == "streamed words", text
    assert usage.total_tokens == 15, usage


def agent():
    answer = client.chat.completions.create(model="Assistant", messages=HELLO)
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("It is sunny.", "stop"), answer
    assert not choice.message.tool_calls, answer
    assert answer.usage.total_tokens == 30, answer


def agent_stream():
    """The strict helper: it adds up all deltas and trips over every small fault."""
    options = {"include_usage": True}
    with client.chat.completions.stream(model="Assistant", messages=HELLO, stream_options=options) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        answer = stream.get_final_completion()
    choice = answer.choices[0]
    assert text == choice.message.content == "It is sunny.", answer
    assert (choice.finish_reason, choice.message.role) == ("stop", "assistant"), answer
    assert answer.usage.total_tokens == 30, answer
    assert answer.model == "Assistant", answer


def client_tool():
    with client.chat.completions.stream(model="Assistant", messages=HELLO, tools=[PAINT]) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls", choice
    (call,) = choice.message.tool_calls
    assert (call.function.name, call.function.parsed_arguments) == ("paint", {"what": "sky"}), call
    asked = choice.message.model_dump(exclude_none=True, exclude={"parsed": True})
    asked["tool_calls"] = [
        {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}}
    ]
    messages = [*HELLO, asked, {"role": "tool", "tool_call_id": call.id, "content": "blue"}]
    answer = client.chat.completions.create(model="Assistant", messages=messages, tools=[PAINT])
    assert answer.choices[0].message.content == "Painted.", answer


def structured():
    answer = client.chat.completions.parse(model="Assistant", messages=HELLO, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Paris", sunny=True), answer


def error(kind, status, code, ask):
    try:
        ask()
    except kind as raised:
        assert type(raised) is kind, repr(raised)
        assert (raised.status_code, raised.code) == (status, code), repr(raised)
        assert raised.request_id, repr(raised)
    else:
        raise AssertionError(f"no {kind.__name__}")


def errors():
    def ask(model, using=client, **more):
        return lambda: using.chat.completions.create(model=model, messages=HELLO, **more)

    stranger = OpenAI(base_url=BASE_URL, api_key="wrong", max_retries=0)
    error(openai.BadRequestError, 400, "unsupported_value", ask("Assistant", n=2))
    error(openai.AuthenticationError, 401, "invalid_api_key", ask("Assistant", using=stranger))
    error(openai.NotFoundError, 404, "model_not_found", ask("nobody"))
    error(openai.InternalServerError, 502, "upstream_unreachable", ask("dead/model"))
    error(openai.InternalServerError, 502, "upstream_unreachable", ask("dead/model", stream=True))


def broken_stream():
    """An agent's stream that breaks is an exception, not a short answer."""
    try:
        for _ in client.chat.completions.create(model="Assistant", messages=HELLO, stream=True):
            pass
    except openai.APIError as raised:
        assert raised.code == "upstream_error", repr(raised)
    else:
        raise AssertionError("a broken stream looked whole")


for scenario in [models, plain, plain_stream, agent, agent_stream, client_tool, structured, errors, broken_stream]:
    scenario()
    print(scenario.__name__, "ok")
