// The official JavaScript SDK against a gateway: its base URL and a key are the arguments. Fails on the first thing that is not as it should be.

import assert from "node:assert/strict";

import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const messages = [{ role: "user", content: "hello" }];
const parameters = { type: "object", properties: { what: { type: "string" } }, required: ["what"], additionalProperties: false };
const paint = { type: "function", function: { name: "paint", description: "Paints.", parameters } };
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 30_000 });

const scenarios = {
  async models() {
    const ids = (await client.models.list()).data.map((model) => model.id);
    assert.ok(ids.includes("Assistant") && ids.includes("scripted"), String(ids));
    assert.equal((await client.models.retrieve("Assistant")).id, "Assistant");
  },

  async plain() {
    const answer = await client.chat.completions.create({ model: "scripted", messages });
    assert.equal(answer.choices[0].message.content, "plain words");
    assert.ok(answer._request_id);
  },

  async plainStream() {
    let [text, usage] = ["", null];
    const stream = await client.chat.completions.create({
      model: "scripted",
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, "streamed words");
    assert.equal(usage.total_tokens, 15);
  },

  async agent() {
    const answer = await client.chat.completions.create({ model: "Assistant", messages });
    assert.equal(answer.choices[0].message.content, "It is sunny.");
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.choices[0].message.tool_calls, undefined);
    assert.equal(answer.usage.total_tokens, 30);
  },

  async agentStream() {
    const stream = client.chat.completions.stream({ model: "Assistant", messages, stream_options: { include_usage: true } });
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const answer = await stream.finalChatCompletion();
    assert.equal(text, "It is sunny.");
    assert.equal(answer.choices[0].message.content, text);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal((await stream.totalUsage()).total_tokens, 30);
  },

  async clientTool() {
    const runner = client.chat.completions.stream({ model: "Assistant", messages, tools: [paint] });
    const { message, finish_reason } = (await runner.finalChatCompletion()).choices[0];
    assert.equal(finish_reason, "tool_calls");
    assert.equal(message.tool_calls.length, 1);
    const [call] = message.tool_calls;
    assert.equal(call.function.name, "paint");
    assert.deepEqual(JSON.parse(call.function.arguments), { what: "sky" });
    const { role, content, tool_calls } = message;
    const brought = [...messages, { role, content, tool_calls }, { role: "tool", tool_call_id: call.id, content: "blue" }];
    const answer = await client.chat.completions.create({ model: "Assistant", messages: brought, tools: [paint] });
    assert.equal(answer.choices[0].message.content, "Painted.");
  },

  async structured() {
    const schema = {
      type: "object",
      properties: { city: { type: "string" }, sunny: { type: "boolean" } },
      required: ["city", "sunny"],
      additionalProperties: false,
    };
    const response_format = { type: "json_schema", json_schema: { name: "weather", strict: true, schema } };
    const answer = await client.chat.completions.create({ model: "Assistant", messages, response_format });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { city: "Paris", sunny: true });
  },

  async errors() {
    const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
    const cases = [
      [OpenAI.BadRequestError, 400, "unsupported_value", client, { model: "Assistant", n: 2 }],
      [OpenAI.AuthenticationError, 401, "invalid_api_key", stranger, { model: "Assistant" }],
      [OpenAI.NotFoundError, 404, "model_not_found", client, { model: "nobody" }],
      [OpenAI.InternalServerError, 502, "upstream_unreachable", client, { model: "dead/model" }],
      [OpenAI.InternalServerError, 502, "upstream_unreachable", client, { model: "dead/model", stream: true }],
    ];
    for (const [kind, status, code, using, body] of cases) {
      await assert.rejects(using.chat.completions.create({ messages, ...body }), (raised) => {
        assert.ok(raised instanceof kind, String(raised));
        assert.equal(raised.status, status);
        assert.equal(raised.code, code);
        assert.ok(raised.requestID);
        return true;
      });
    }
  },

  /** An agent's stream that breaks is an exception, not a short answer. */
  async brokenStream() {
    const stream = await client.chat.completions.create({ model: "Assistant", messages, stream: true });
    await assert.rejects(
      async () => {
        for await (const _ of stream);
      },
      (raised) => raised.code === "upstream_error",
    );
  },
};

for (const [name, scenario] of Object.entries(scenarios)) {
  await scenario();
  console.log(name, "ok");
}
