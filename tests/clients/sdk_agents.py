"""SDK agents through the official client, whole and streamed. Fails on the first thing that is wrong.

The arguments are BASE_URL, then perhaps a model, a question and words of the answer; else the shipped agents are asked on the demo model.
"""

import sys

from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)

# The demo model calls the tools that a message names, and repeats what they said.
ASKED = {
    "researcher": ("Search the library for tides, then transfer to the writer.", "Tides"),
    "triage": ("Transfer to shipping, then track order A-17.", "arrives tomorrow"),
}


def whole(model, messages):
    answer = client.chat.completions.create(model=model, messages=messages)
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.total_tokens > 0, answer
    return answer.choices[0].message.content


def streamed(model, messages):
    pieces = []
    with client.chat.completions.stream(model=model, messages=messages) as stream:
        for event in stream:
            if event.type == "content.delta":
                pieces.append(event.delta)
        final = stream.get_final_completion()
    assert len(pieces) > 1, pieces
    assert "".join(pieces) == final.choices[0].message.content, final
    return final.choices[0].message.content


if len(sys.argv) > 2:
    model, question, expected = sys.argv[2:]
    ASKED = {model: (question, expected)}

for model, (question, expected) in ASKED.items():
    for ask in (whole, streamed):
        text = ask(model, [{"role": "user", "content": question}])
        assert expected in text, (model, text)
        print(model, ask.__name__, "ok")
