// Other generations of the official SDKs for Node, unmodified, against a running gateway: what has to hold for each of
// them is that answers are answers, that failures are exceptions in a stream as before it, and that retries are as many
// as the contract intends.
//
// Usage: generations_node.mjs SDK_FOLDER BASE_URL KEY NARROW_KEY LIMITED_KEY

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { counted, failure, made } from "./counting.mjs";

const [sdk, baseURL, apiKey, narrowKey] = process.argv.slice(2);
const load = async (name) => (await import(createRequire(`${sdk}/`).resolve(name))).default;
const UNAVAILABLE = /Service temporarily unavailable/;
const messages = [{ role: "user", content: "hello" }];

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
  assert.equal(error.status, status, String(error));
  if (words) assert.match(String(error), words);
  assert.equal(made, requests, `requests made for ${error}`);
}

/** What both SDKs have in common; models that are waited for end in `use`, so that generations do not meet at one. */
async function common(SDK, client, calls, use) {
  const narrow = client.withOptions?.({ apiKey: narrowKey });
  for (const [call, isEnd] of calls) {
    assert.ok(await call(client, "openai/gpt"));
    assert.ok(isEnd((await all(call(client, "openai/gpt", { stream: true }))).at(-1)));
    await fails(SDK.BadRequestError, 1, () => call(client, "fails/parameter"), 400, /temperature/);
    if (narrow) await fails(SDK.PermissionDeniedError, 1, () => call(narrow, "openai/gpt"), 403);
    for (const model of ["fails/cut", "fails/error-mid"]) {
      await fails(SDK.APIError, 1, () => all(call(client, model, { stream: true })), undefined, UNAVAILABLE);
    }
  }
  const [[call]] = calls;
  await Promise.all([
    fails(SDK.InternalServerError, 3, () => call(client, `fails/overload${use}`), 502, UNAVAILABLE),
    fails(SDK.InternalServerError, 3, () => call(client, `fails/broken${use}`, { stream: true }), 502, UNAVAILABLE),
    fails(SDK.InternalServerError, 3, () => call(client, `fails/weird${use}`), 500),
  ]);
}

async function openai(name, use) {
  const OpenAI = await load(name);
  const client = new OpenAI({ baseURL, apiKey, fetch: counted });
  const chat = (client, model, more) => client.chat.completions.create({ model, messages, ...more });
  const respond = (client, model, more) => client.responses.create({ model, input: "hello", ...more });
  const calls = [
    [chat, (chunk) => chunk.choices[0].finish_reason === "stop"],
    [respond, (event) => event.type === "response.completed"],
  ];
  await common(OpenAI, client, calls, use);
  await fails(OpenAI.InternalServerError, 1, () => chat(client, "openai/none"), 503, /No available channel/);
}

async function anthropic(name, use) {
  const Anthropic = await load(name);
  const client = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ""), apiKey, fetch: counted });
  const message = (client, model, more) => client.messages.create({ model, messages, max_tokens: 64, ...more });
  await common(Anthropic, client, [[message, (event) => event.type === "message_stop"]], use);
  await fails(Anthropic.InternalServerError, 1, () => message(client, "openai/none"), 503, /No available channel/);
}

await Promise.all([
  openai("openai-4", ""),
  openai("openai-5", "-stream"),
  openai("openai-7", "-responses"),
  anthropic("anthropic-0", "-messages"),
]);
console.log(`ok ${made()}`);
