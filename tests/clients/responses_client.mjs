// The official JavaScript SDK and the Responses API: the base URL and a key are the arguments. Fails on the first thing that is not as it should be.

import assert from "node:assert/strict";

import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const parameters = { type: "object", properties: { what: { type: "string" } }, required: ["what"], additionalProperties: false };
const paint = { type: "function", name: "paint", description: "Paints.", strict: true, parameters };
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 30_000 });
const hello = { model: "Assistant", input: "hello" };
const types = (response) => response.output.map((item) => item.type);

const weather = {
  type: "json_schema",
  name: "weather",
  strict: true,
  schema: {
    type: "object",
    properties: { city: { type: "string" }, sunny: { type: "boolean" } },
    required: ["city", "sunny"],
    additionalProperties: false,
  },
};

const scenarios = {
  async create() {
    const response = await client.responses.create({ ...hello, metadata: { a: "b" } });
    assert.equal(response.output_text, "It is sunny.");
    assert.deepEqual(types(response), ["mcp_call", "message"]);
    assert.equal(response.output[0].output, "sunny in Paris");
    assert.equal(response.usage.total_tokens, 30);
    assert.ok(response._request_id);
  },

  async createStream() {
    let [text, number, last] = ["", 0, null];
    for await (const event of await client.responses.create({ ...hello, stream: true })) {
      assert.equal(event.sequence_number, number++);
      text += event.type === "response.output_text.delta" ? event.delta : "";
      last = event;
    }
    assert.equal(last.type, "response.completed");
    assert.equal(text, "It is sunny.");
  },

  /** The strict helper: it adds up all events. */
  async streamHelper() {
    const stream = client.responses.stream(hello);
    let text = "";
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const response = await stream.finalResponse();
    assert.equal(text, "It is sunny.");
    assert.equal(response.output_text, text);
    assert.deepEqual(types(response), ["reasoning", "mcp_call", "message"]);
    assert.equal(response.output[0].content[0].text, "hmm");
  },

  async clientTool() {
    const response = await client.responses.stream({ ...hello, tools: [paint] }).finalResponse();
    const call = response.output.find((item) => item.type === "function_call");
    assert.deepEqual([call.name, JSON.parse(call.arguments)], ["paint", { what: "sky" }]);
    const result = { type: "function_call_output", call_id: call.call_id, output: "blue" };
    const answer = await client.responses.create({ ...hello, previous_response_id: response.id, input: [result], tools: [paint] });
    assert.equal(answer.output_text, "Painted.");
  },

  async clientToolByItems() {
    const history = [{ role: "user", content: "hello" }];
    const response = await client.responses.create({ ...hello, input: history, tools: [paint], store: false });
    assert.deepEqual(types(response), ["mcp_call", "function_call"]);
    history.push(...response.output, { type: "function_call_output", call_id: response.output[1].call_id, output: "blue" });
    const answer = await client.responses.create({ ...hello, input: history, tools: [paint], store: false });
    assert.equal(answer.output_text, "Painted.");
  },

  async structured() {
    const answer = await client.responses.parse({ ...hello, text: { format: weather } });
    assert.deepEqual(answer.output_parsed ?? JSON.parse(answer.output_text), { city: "Paris", sunny: true });
  },

  async structuredStream() {
    const answer = await client.responses.stream({ ...hello, text: { format: weather } }).finalResponse();
    assert.deepEqual(JSON.parse(answer.output_text), { city: "Paris", sunny: true });
  },

  async conversation() {
    const first = await client.responses.create({ ...hello, input: "one" });
    const second = await client.responses.create({ ...hello, input: "two", previous_response_id: first.id });
    assert.equal(second.output_text, "Second.");
    assert.equal((await client.responses.retrieve(first.id)).output_text, first.output_text);
    await client.responses.delete(first.id);
    await assert.rejects(
      client.responses.create({ ...hello, previous_response_id: first.id }),
      (raised) => raised instanceof OpenAI.NotFoundError && raised.code === "not_found",
    );
  },

  async incomplete() {
    const response = await client.responses.create(hello);
    assert.deepEqual([response.status, response.incomplete_details.reason], ["incomplete", "max_output_tokens"]);
  },

  async errors() {
    const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
    const cases = [
      [OpenAI.BadRequestError, 400, "unsupported_value", client, { background: true }],
      [OpenAI.BadRequestError, 400, "unsupported_value", client, { tools: [{ type: "web_search" }], stream: true }],
      [OpenAI.AuthenticationError, 401, "invalid_api_key", stranger, {}],
      [OpenAI.NotFoundError, 404, "model_not_found", client, { model: "nobody" }],
      [OpenAI.InternalServerError, 502, "upstream_unreachable", client, { model: "Dead" }],
      [OpenAI.InternalServerError, 502, "upstream_unreachable", client, { model: "Dead", stream: true }],
    ];
    for (const [kind, status, code, using, body] of cases) {
      await assert.rejects(using.responses.create({ ...hello, ...body }), (raised) => {
        assert.ok(raised instanceof kind, String(raised));
        assert.deepEqual([raised.status, raised.code], [status, code]);
        assert.ok(raised.requestID);
        return true;
      });
    }
  },

  /** A stream that breaks ends with a failed response. */
  async brokenStream() {
    let last = null;
    for await (const event of await client.responses.create({ ...hello, stream: true })) {
      last = event;
    }
    assert.deepEqual([last.type, last.response.error.code], ["response.failed", "upstream_error"]);
  },
};

for (const [name, scenario] of Object.entries(scenarios)) {
  await scenario();
  console.log(name, "ok");
}
