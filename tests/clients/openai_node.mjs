// The official OpenAI SDK for Node, unmodified, against a running gateway.
//
// Usage: openai_node.mjs SDK_FOLDER BASE_URL KEY NARROW_KEY LIMITED_KEY
//
// Each check is one sentence of the contract; the first that does not hold ends the run with an error.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [sdk, baseURL, apiKey, narrowKey, limitedKey] = process.argv.slice(2);
const { default: OpenAI } = await import(createRequire(`${sdk}/`).resolve("openai"));
const messages = [{ role: "user", content: "hello" }];
const tools = [
  { type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } } },
];
let made = 0;
const counted = (...request) => {
  made += 1;
  return fetch(...request);
};
const client = new OpenAI({ baseURL, apiKey, fetch: counted });

const chat = (model, more = {}, using = client) => using.chat.completions.create({ model, messages, ...more });

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

/** The call throws exactly `kind` after so many requests, the SDK's retries included. */
async function fails(kind, requests, call, status, code) {
  const before = made;
  const error = await call().then(
    () => assert.fail(`${kind.name} was not thrown`),
    (error) => error,
  );
  assert.equal(error.constructor, kind, `${error.constructor.name} instead of ${kind.name}: ${error}`);
  if (status) assert.equal(error.status, status);
  if (code) assert.equal(error.code, code);
  assert.equal(made - before, requests, `requests made for ${error}`);
  return error;
}

// Answers.
const answer = await chat("openai/gpt");
assert.equal(answer.model, "openai/gpt");
assert.match(answer.id, /^gate-/);
assert.ok(answer.choices[0].message.content && answer._request_id && answer.usage.total_tokens > 0);
const called = (await chat("openai/gpt", { tools, tool_choice: "required" })).choices[0];
assert.equal(called.message.tool_calls[0].function.name, "weather");
assert.ok((await client.completions.create({ model: "openai/gpt", prompt: "hello" })).choices[0].text);
const vectors = await client.embeddings.create({ model: "openai/embed", input: "a", dimensions: 8 });
assert.equal(vectors.data[0].embedding.length, 8);
assert.ok((await client.images.generate({ model: "openai/image", prompt: "a boat" })).data[0].b64_json);
assert.ok((await all(client.models.list())).some((model) => model.id === "openai/gpt"));

// Streams.
const plain = await all(chat("openai/gpt", { stream: true }));
assert.ok(plain.every((chunk) => chunk.model === "openai/gpt" && !chunk.usage && chunk.id === plain[0].id));
assert.equal(plain.at(-1).choices[0].finish_reason, "stop");
const withUsage = await all(chat("openai/gpt", { stream: true, stream_options: { include_usage: true } }));
assert.equal(withUsage.filter((chunk) => chunk.usage).length, 1);
assert.ok(withUsage.at(-1).usage.completion_tokens > 0);
const pieces = await all(chat("openai/gpt", { stream: true, tools, tool_choice: "required" }));
const calls = pieces.flatMap((chunk) => chunk.choices.flatMap((choice) => choice.delta.tool_calls ?? []));
assert.ok(calls.map((call) => call.function.arguments ?? "").join("").includes("Paris"));
const runner = client.chat.completions.stream({ model: "openai/gpt", messages });
assert.ok(await runner.finalContent());
assert.equal((await chat("openai/failover")).model, "openai/failover");
const aborted = await chat("openai/long", { stream: true });
for await (const chunk of aborted) {
  assert.ok(chunk);
  aborted.controller.abort();
  break;
}

// Errors.
const as = (key) => client.withOptions({ apiKey: key });
await fails(OpenAI.BadRequestError, 1, () => chat("openai/gpt", { n: 0 }), 400, "invalid_value");
await fails(OpenAI.BadRequestError, 1, () => chat("fails/parameter"), 400, "invalid_request_error");
await fails(OpenAI.AuthenticationError, 1, () => chat("openai/gpt", {}, as("wrong")), 401, "invalid_api_key");
await fails(OpenAI.PermissionDeniedError, 1, () => chat("openai/gpt", {}, as(narrowKey)), 403, "model_access_denied");
await fails(OpenAI.NotFoundError, 1, () => client.models.retrieve("openai/none"), 404, "model_not_found");
await fails(OpenAI.APIError, 1, () => chat("fails/context"), 413, "context_length_exceeded");
await fails(OpenAI.InternalServerError, 1, () => chat("openai/none"), 503, "model_not_found");
await fails(OpenAI.InternalServerError, 3, () => chat("fails/weird"), 500, "unexpected_provider_response");
await fails(OpenAI.InternalServerError, 3, () => chat("fails/overload", { stream: true }), 502, "service_unavailable");
for (const model of ["fails/cut", "fails/error-mid"]) {
  const error = await fails(OpenAI.APIError, 1, () => all(chat(model, { stream: true })));
  assert.match(String(error), /Service temporarily unavailable/);
}

// Responses.
const respond = (model, more = {}) => client.responses.create({ model, input: "hello", ...more });
const response = await respond("openai/gpt");
assert.match(response.id, /^resp-gate-/);
assert.ok(response.output_text && response.model === "openai/gpt");
const states = await all(respond("openai/gpt", { stream: true }));
assert.equal(states.at(-1).type, "response.completed");
assert.equal(states.at(-1).response.id, states[0].response.id);
assert.ok((await client.responses.stream({ model: "openai/failover", input: "hello" }).finalResponse()).output_text);
await fails(OpenAI.BadRequestError, 1, () => respond("fails/parameter"), 400, "invalid_request_error");
await fails(OpenAI.APIError, 1, () => respond("fails/context"), 413, "context_length_exceeded");
await fails(OpenAI.InternalServerError, 3, () => respond("fails/overload", { stream: true }), 502, "service_unavailable");
for (const model of ["fails/cut", "fails/error-mid"]) {
  const error = await fails(OpenAI.APIError, 1, () => all(respond(model, { stream: true })));
  assert.match(String(error), /Service temporarily unavailable/);
}

// A compacted conversation.
const compacted = await client.responses.compact({ model: "openai/gpt", previous_response_id: response.id });
assert.match(compacted.id, /^resp-gate-/);
assert.ok(compacted.output.at(-1).encrypted_content && compacted.usage.total_tokens > 0);

// Limits.
const limited = client.withOptions({ apiKey: limitedKey, maxRetries: 0 });
await chat("openai/gpt", {}, limited);
const refused = await fails(OpenAI.RateLimitError, 1, () => chat("openai/gpt", {}, limited), 429, "requests_per_minute");
assert.ok(Number(refused.headers.get("retry-after")) >= 1);
console.log(`ok ${made}`);
