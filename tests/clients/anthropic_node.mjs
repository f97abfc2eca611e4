// The official Anthropic SDK for Node, unmodified, against a running gateway.
//
// Usage: anthropic_node.mjs SDK_FOLDER BASE_URL KEY NARROW_KEY LIMITED_KEY
//
// Each check is one sentence of the contract; the first that does not hold ends the run with an error.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { counted, failure, made } from "./counting.mjs";

const [sdk, baseURL, apiKey, narrowKey, limitedKey] = process.argv.slice(2);
const { default: Anthropic } = await import(createRequire(`${sdk}/`).resolve("@anthropic-ai/sdk"));
const messages = [{ role: "user", content: "hello" }];
const client = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ""), apiKey, fetch: counted });
const message = (model, more = {}, using = client) => using.messages.create({ model, messages, max_tokens: 64, ...more });

async function all(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
}

/** The call throws exactly `kind` after so many requests, the SDK's retries included. */
async function fails(kind, requests, call, status, words) {
  const { error, made } = await failure(call);
  assert.ok(error, `${kind.name} was not thrown`);
  assert.equal(error.constructor, kind, `${error.constructor.name} instead of ${kind.name}: ${error}`);
  if (status) assert.equal(error.status, status);
  if (words) assert.match(String(error), words);
  assert.equal(made, requests, `requests made for ${error}`);
  return error;
}

// Answers and streams.
const answer = await message("openai/gpt");
assert.equal(answer.model, "openai/gpt");
assert.match(answer.id, /^msg_gate_/);
assert.ok(answer.content[0].text && answer._request_id && answer.usage.output_tokens > 0);
const events = await all(message("openai/gpt", { stream: true }));
assert.equal(events[0].message.model, "openai/gpt");
assert.equal(events.at(-1).type, "message_stop");
assert.ok(await client.messages.stream({ model: "openai/failover", messages, max_tokens: 64 }).finalText());

// Counts, and the list of models, which has OpenAI's shape.
assert.ok((await client.messages.countTokens({ model: "sandbox/gpt", messages })).input_tokens > 0);
const ids = [];
for await (const model of client.models.list()) ids.push(model.id);
assert.ok(ids.includes("openai/gpt"));
assert.equal((await client.models.retrieve("openai/gpt")).id, "openai/gpt");
assert.equal((await client.get("/v1/balance")).object, "balance");

// Tools, and a round with one.
const tools = [{ name: "weather", input_schema: { type: "object", properties: { city: { type: "string" } } } }];
const called = await message("aimock/gpt", { tools });
const used = called.content.find((block) => block.type === "tool_use");
assert.ok(called.stop_reason === "tool_use" && used.name === "weather" && used.input.city === "Paris");
const result = { role: "user", content: [{ type: "tool_result", tool_use_id: used.id, content: "sunny" }] };
const turns = [...messages, { role: "assistant", content: called.content }, result];
assert.match((await message("aimock/gpt", { tools, messages: turns })).content[0].text, /sunny/);
const streamed = client.messages.stream({ model: "aimock/gpt", messages, tools, max_tokens: 64 });
assert.deepEqual((await streamed.finalMessage()).content.at(-1).input, { city: "Paris" });

// Errors.
const as = (key) => client.withOptions({ apiKey: key });
await fails(Anthropic.BadRequestError, 1, () => message("fails/parameter"), 400, /temperature/);
await fails(Anthropic.BadRequestError, 1, () => message("fails/policy"), 400);
await fails(Anthropic.AuthenticationError, 1, () => message("openai/gpt", {}, as("wrong")), 401);
await fails(Anthropic.PaymentRequiredError, 1, () => message("openai/priced"), 402);
await fails(Anthropic.PermissionDeniedError, 1, () => message("openai/gpt", {}, as(narrowKey)), 403);
await fails(Anthropic.ContentTooLargeError, 1, () => message("fails/context"), 413, /prompt is too long/);
await fails(Anthropic.ServiceUnavailableError, 1, () => message("openai/none"), 503, /No available channel/);

// What the SDK tries again, at the same time: three requests each.
const unavailable = (call) =>
  fails(Anthropic.InternalServerError, 3, call, 502, /"message":"Service temporarily unavailable"/);
await Promise.all([
  fails(Anthropic.InternalServerError, 3, () => message("fails/weird"), 500),
  unavailable(() => message("fails/overload")),
  unavailable(() => message("fails/overload-stream", { stream: true })),
  unavailable(() => message("fails/credential")),
  unavailable(() => message("fails/rate")),
  unavailable(() => message("fails/broken-stream", { stream: true })),
  unavailable(() => message("fails/closed")),
  unavailable(() => client.messages.countTokens({ model: "fails/completions", messages })),
]);

// Failures in a stream.
for (const model of ["fails/cut", "fails/error-mid"]) {
  await fails(Anthropic.APIError, 1, () => all(message(model, { stream: true })), undefined, /temporarily unavailable/);
}

// Limits.
const limited = client.withOptions({ apiKey: limitedKey, maxRetries: 0 });
await message("openai/gpt", {}, limited);
const refused = await fails(Anthropic.RateLimitError, 1, () => message("openai/gpt", {}, limited), 429);
assert.ok(Number(refused.headers.get("retry-after")) >= 1);
console.log(`ok ${made()}`);
