// The official Anthropic SDK for Node, unmodified, against a running gateway.
//
// Usage: anthropic_node.mjs SDK_FOLDER BASE_URL KEY NARROW_KEY LIMITED_KEY
//
// Each check is one sentence of the contract; the first that does not hold ends the run with an error.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [sdk, baseURL, apiKey, narrowKey, limitedKey] = process.argv.slice(2);
const { default: Anthropic } = await import(createRequire(`${sdk}/`).resolve("@anthropic-ai/sdk"));
const messages = [{ role: "user", content: "hello" }];
let made = 0;
const counted = (...request) => {
  made += 1;
  return fetch(...request);
};
const client = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ""), apiKey, fetch: counted });
const message = (model, more = {}, using = client) => using.messages.create({ model, messages, max_tokens: 64, ...more });

async function all(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
}

/** The call throws exactly `kind` after so many requests, the SDK's retries included. */
async function fails(kind, requests, call, status, words) {
  const before = made;
  const error = await call().then(
    () => assert.fail(`${kind.name} was not thrown`),
    (error) => error,
  );
  assert.equal(error.constructor, kind, `${error.constructor.name} instead of ${kind.name}: ${error}`);
  if (status) assert.equal(error.status, status);
  if (words) assert.match(String(error), words);
  assert.equal(made - before, requests, `requests made for ${error}`);
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
assert.ok((await client.messages.countTokens({ model: "openai/gpt", messages })).input_tokens > 0);
const ids = [];
for await (const model of client.models.list()) ids.push(model.id);
assert.ok(ids.includes("openai/gpt"));
assert.equal((await client.models.retrieve("openai/gpt")).id, "openai/gpt");

// Errors.
const as = (key) => client.withOptions({ apiKey: key });
await fails(Anthropic.BadRequestError, 1, () => message("fails/parameter"), 400, /temperature/);
await fails(Anthropic.BadRequestError, 1, () => message("fails/policy"), 400);
await fails(Anthropic.AuthenticationError, 1, () => message("openai/gpt", {}, as("wrong")), 401);
await fails(Anthropic.PermissionDeniedError, 1, () => message("openai/gpt", {}, as(narrowKey)), 403);
await fails(Anthropic.ContentTooLargeError, 1, () => message("fails/context"), 413, /prompt is too long/);
await fails(Anthropic.ServiceUnavailableError, 1, () => message("openai/none"), 503, /No available channel/);
await fails(Anthropic.InternalServerError, 3, () => message("fails/weird"), 500);
await fails(Anthropic.InternalServerError, 3, () => message("fails/overload", { stream: true }), 502, /temporarily unavailable/);
for (const model of ["fails/cut", "fails/error-mid"]) {
  await fails(Anthropic.APIError, 1, () => all(message(model, { stream: true })), undefined, /temporarily unavailable/);
}

// Limits.
const limited = client.withOptions({ apiKey: limitedKey, maxRetries: 0 });
await message("openai/gpt", {}, limited);
const refused = await fails(Anthropic.RateLimitError, 1, () => message("openai/gpt", {}, limited), 429);
assert.ok(Number(refused.headers.get("retry-after")) >= 1);
console.log(`ok ${made}`);
