"""The official Python SDK and the Responses API: BASE_URL and KEY are its arguments. Fails on the first thing that is not as it should be."""

import sys

import openai
from openai import OpenAI
from pydantic import BaseModel

BASE_URL, KEY = sys.argv[1:]
PAINT = {
    "type": "function",
    "name": "paint",
    "description": "Paints.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"what": {"type": "string"}},
        "required": ["what"],
        "additionalProperties": False,
    },
}
client = OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=30)


class Weather(BaseModel):
    """What the structured answer holds."""

    city: str
    sunny: bool


def create():
    response = client.responses.create(model="Assistant", input="hello", metadata={"a": "b"})
    assert (response.output_text, response.status) == ("It is sunny.", "completed"), response
    assert [item.type for item in response.output] == ["mcp_call", "message"], response
    assert response.output[0].output == "sunny in Paris", response
    assert (response.usage.total_tokens, response.usage.input_tokens_details.cached_tokens) == (30, 0), response
    assert response.metadata == {"a": "b"} and response._request_id, response
    # The types are strict: every key is there and of its kind.
    type(response).model_validate(response.model_dump(), strict=True)


def create_stream():
    """Raw events, each as strict as its type."""
    text, numbers = "", []
    for event in client.responses.create(model="Assistant", input="hello", stream=True):
        type(event).model_validate(event.model_dump(), strict=True)
        numbers.append(event.sequence_number)
        if event.type == "response.output_text.delta":
            text += event.delta
    assert text == event.response.output_text == "It is sunny.", event
    assert (event.type, event.response.model) == ("response.completed", "Assistant"), event
    assert numbers == list(range(len(numbers))), numbers


def stream_helper():
    """The strict helper: it adds up all events and trips over every small fault."""
    with client.responses.stream(model="Assistant", input="hello") as stream:
        events = list(stream)
        response = stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == response.output_text == "It is sunny.", response
    assert [event.snapshot for event in events if event.type == "response.output_text.delta"][-1] == text, events
    assert [item.type for item in response.output] == ["reasoning", "mcp_call", "message"], response


def client_tool():
    """The helper reads the call; its result goes back with the response's id."""
    with client.responses.stream(model="Assistant", input="hello", tools=[PAINT]) as stream:
        for _ in stream:
            pass
        response = stream.get_final_response()
    (call,) = [item for item in response.output if item.type == "function_call"]
    assert (call.name, call.arguments) == ("paint", '{"what":"sky"}'), call
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "blue"}
    answer = client.responses.create(model="Assistant", previous_response_id=response.id, input=[result], tools=[PAINT])
    assert answer.output_text == "Painted.", answer


def client_tool_by_items():
    """The items themselves go back, the gateway's own call among them."""
    history = [{"role": "user", "content": "hello"}]
    response = client.responses.create(model="Assistant", input=history, tools=[PAINT], store=False)
    assert [item.type for item in response.output] == ["mcp_call", "function_call"], response
    history += [item.model_dump(exclude_none=True) for item in response.output]
    history.append({"type": "function_call_output", "call_id": response.output[1].call_id, "output": "blue"})
    answer = client.responses.create(model="Assistant", input=history, tools=[PAINT], store=False)
    assert answer.output_text == "Painted.", answer


def structured():
    answer = client.responses.parse(model="Assistant", input="hello", text_format=Weather)
    assert answer.output_parsed == Weather(city="Paris", sunny=True), answer


def structured_stream():
    with client.responses.stream(model="Assistant", input="hello", text_format=Weather) as stream:
        answer = stream.get_final_response()
    assert answer.output_parsed == Weather(city="Paris", sunny=True), answer


def conversation():
    first = client.responses.create(model="Assistant", input="one")
    second = client.responses.create(model="Assistant", input="two", previous_response_id=first.id)
    assert (second.output_text, second.previous_response_id) == ("Second.", first.id), second
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    error(openai.NotFoundError, 404, "not_found", lambda: ask(previous_response_id=first.id))


def incomplete():
    response = client.responses.create(model="Assistant", input="hello")
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens"), response


def ask(using=client, **more):
    return using.responses.create(**{"model": "Assistant", "input": "hello", **more})


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
    stranger = OpenAI(base_url=BASE_URL, api_key="wrong", max_retries=0)
    error(openai.BadRequestError, 400, "unsupported_value", lambda: ask(background=True))
    error(openai.BadRequestError, 400, "unsupported_value", lambda: ask(tools=[{"type": "web_search"}], stream=True))
    error(openai.AuthenticationError, 401, "invalid_api_key", lambda: ask(using=stranger))
    error(openai.NotFoundError, 404, "model_not_found", lambda: ask(model="nobody"))
    error(openai.InternalServerError, 502, "upstream_unreachable", lambda: ask(model="Dead"))
    error(openai.InternalServerError, 502, "upstream_unreachable", lambda: ask(model="Dead", stream=True))


def broken_stream():
    """A stream that breaks ends with a failed response, and the helper has no final one."""
    with client.responses.stream(model="Assistant", input="hello") as stream:
        events = list(stream)
        assert (events[-1].type, events[-1].response.error.code) == ("response.failed", "upstream_error"), events[-1]
        try:
            stream.get_final_response()
        except RuntimeError:
            return
    raise AssertionError("a broken stream looked whole")


SCENARIOS = [
    create,
    create_stream,
    stream_helper,
    client_tool,
    client_tool_by_items,
    structured,
    structured_stream,
    conversation,
    incomplete,
    errors,
    broken_stream,
]
for scenario in SCENARIOS:
    scenario()
    print(scenario.__name__, "ok")
