// The official OpenAI SDK for Node, unmodified, against a running gateway.
//
// Usage: openai_node.mjs SDK_FOLDER BASE_URL KEY NARROW_KEY LIMITED_KEY
//
// Each check is one sentence of the contract; the first that does not hold ends the run with an error.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { counted, failure, made } from "./counting.mjs";

const [sdk, baseURL, apiKey, narrowKey, limitedKey] = process.argv.slice(2);
const { default: OpenAI } = await import(createRequire(`${sdk}/`).resolve("openai"));
const messages = [{ role: "user", content: "hello" }];
const tools = [
  { type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } } },
];
const client = new OpenAI({ baseURL, apiKey, fetch: counted });

const chat = (model, more = {}, using = client) => using.chat.completions.create({ model, messages, ...more });

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

/** The call throws exactly `kind` after so many requests, the SDK's retries included. */
async function fails(kind, requests, call, status, code) {
  const { error, made } = await failure(call);
  assert.ok(error, `${kind.name} was not thrown`);
  assert.equal(error.constructor, kind, `${error.constructor.name} instead of ${kind.name}: ${error}`);
  if (status) assert.equal(error.status, status);
  if (code) assert.equal(error.code, code);
  assert.equal(made, requests, `requests made for ${error}`);
  return error;
}

// Answers.
const answer = await chat("openai/gpt");
assert.equal(answer.model, "openai/gpt");
assert.match(answer.id, /^gate-/);
assert.ok(answer.choices[0].message.content && answer._request_id && answer.usage.total_tokens > 0);
const called = (await chat("openai/gpt", { tools, tool_choice: "required" })).choices[0];
assert.equal(called.message.tool_calls[0].function.name, "weather");
assert.equal((await chat("sandbox/gpt", { n: 3 })).choices.length, 3);
const completed = await client.completions.create({ model: "sandbox/gpt", prompt: "hello" });
assert.ok(completed.choices[0].text && completed.model === "sandbox/gpt");
assert.match(completed.id, /^gate-/);
// The SDK asks for base64 unless told otherwise, and takes it for granted that it is given that.
for (const more of [{ model: "openai/embed", encoding_format: "float" }, { model: "sandbox/embed" }]) {
  const vectors = await client.embeddings.create({ input: "a", dimensions: 8, ...more });
  assert.equal(vectors.data[0].embedding.length, 8);
}
assert.ok((await client.images.generate({ model: "openai/image", prompt: "a boat" })).data[0].b64_json);
assert.ok((await all(client.models.list())).some((model) => model.id === "openai/gpt"));
assert.equal((await client.models.retrieve("openai/gpt")).id, "openai/gpt");
assert.equal((await client.get("/balance")).object, "balance");
// Clients are configured with the version in the base URL and without (spec 1.1).
const shorter = client.withOptions({ baseURL: baseURL.replace(/\/v1$/, "") });
assert.equal((await chat("openai/gpt", {}, shorter)).model, "openai/gpt");

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
assert.ok((await all(client.completions.create({ model: "sandbox/gpt", prompt: "hello", stream: true }))).length > 1);
const aborted = await chat("sandbox/long", { stream: true });
for await (const chunk of aborted) {
  assert.ok(chunk);
  aborted.controller.abort();
  break;
}

// Errors.
const as = (key) => client.withOptions({ apiKey: key });
await fails(OpenAI.BadRequestError, 1, () => chat("openai/gpt", { n: 0 }), 400, "invalid_value");
await fails(OpenAI.BadRequestError, 1, () => chat("fails/parameter"), 400, "invalid_value");
await fails(OpenAI.AuthenticationError, 1, () => chat("openai/gpt", {}, as("wrong")), 401, "invalid_api_key");
await fails(OpenAI.PermissionDeniedError, 1, () => chat("openai/gpt", {}, as(narrowKey)), 403, "model_access_denied");
await fails(OpenAI.APIError, 1, () => chat("openai/priced"), 402, "insufficient_quota");
await fails(OpenAI.NotFoundError, 1, () => client.files.list(), 404, "not_found");
await fails(OpenAI.NotFoundError, 1, () => client.models.retrieve("openai/none"), 404, "model_not_found");
await fails(OpenAI.APIError, 1, () => chat("fails/context"), 413, "context_length_exceeded");
await fails(OpenAI.InternalServerError, 1, () => chat("openai/none"), 503, "model_not_found");
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
await fails(OpenAI.BadRequestError, 1, () => respond("fails/parameter"), 400, "invalid_value");
await fails(OpenAI.APIError, 1, () => respond("fails/context"), 413, "context_length_exceeded");
for (const model of ["fails/cut", "fails/error-mid"]) {
  const error = await fails(OpenAI.APIError, 1, () => all(respond(model, { stream: true })));
  assert.match(String(error), /Service temporarily unavailable/);
}

// Images.
async function images() {
  const { toFile } = await import(createRequire(`${sdk}/`).resolve("openai"));
  const two = await client.images.generate({ model: "sandbox/image", prompt: "a boat", size: "1024x1024", n: 2 });
  assert.ok(two.data.length === 2 && two.usage.output_tokens > 0);
  const generate = (model, more) => client.images.generate({ model, prompt: "x", ...more });
  await fails(OpenAI.BadRequestError, 1, () => generate("openai/image", { size: "1x1" }), 400, "invalid_image_size");
  await fails(OpenAI.BadRequestError, 1, () => generate("openai/gpt"), 400, "wrong_endpoint");
  const picture = Buffer.alloc(256_000, Uint8Array.from({ length: 256 }, (_, byte) => byte));
  const file = (name) => toFile(picture, name, { type: "image/png" });
  const edit = (image, more) => client.images.edit({ model: "sandbox/image", image, prompt: "a \u00e9 boat", ...more });
  for (const image of [await file("b\u00f6at.png"), [await file("a.png"), await file("b.png")]]) {
    const edited = await edit(image, { mask: await file("m.png"), size: "auto" });
    assert.ok(edited.data[0].b64_json && edited.usage.input_tokens_details.image_tokens > 0);
    assert.ok((await edit(image, { model: "openai/image" })).data[0].b64_json);
  }
  // The SDK sends forms alone; the route takes JSON as well.
  const body = { model: "sandbox/image", prompt: "x", images: [{ image_url: "data:image/png;base64,iVBORw0KGgo=" }] };
  assert.ok((await client.post("/images/edits", { body })).data[0].b64_json);
  const one = await file("a.png");
  await fails(OpenAI.BadRequestError, 1, () => edit(one, { size: "1x1" }), 400, "invalid_image_size");
  const types = async (stream) => (await all(stream)).map((event) => event.type);
  const partial = "image_generation.partial_image";
  const streamed = await all(generate("sandbox/image", { stream: true, partial_images: 2 }));
  assert.deepEqual(streamed.map((event) => event.type), [partial, partial, "image_generation.completed"]);
  assert.ok(streamed[2].b64_json && streamed[2].usage.output_tokens > 0);
  const edits = await types(edit([one], { stream: true, partial_images: 1 }));
  assert.deepEqual(edits, ["image_edit.partial_image", "image_edit.completed"]);
  for (const model of ["fails/image-cut", "fails/image-error"]) {
    const error = await fails(OpenAI.APIError, 1, () => all(generate(model, { stream: true, partial_images: 1 })));
    assert.match(String(error), /Service temporarily unavailable/);
  }
  const { message } = (await chat("google/image")).choices[0];
  assert.ok(message.content === null && message.images[0].image_url.url.startsWith("data:image/png;base64,"));
  const chunks = await all(chat("google/image", { stream: true }));
  assert.ok(chunks.some((chunk) => chunk.choices[0].delta.images));
}
await images();

// A compacted conversation.
const { id } = await respond("sandbox/gpt");
const compacted = await client.responses.compact({ model: "sandbox/gpt", previous_response_id: id });
assert.match(compacted.id, /^resp-gate-/);
assert.ok(compacted.output.at(-1).encrypted_content && compacted.usage.total_tokens > 0);

// Video: the route is synchronous and takes JSON (spec 1.1, 4.3); the SDK's own call leaves a job by a form.
for (const path of ["/videos", "/video/generations"]) {
  const film = await client.post(path, { body: { model: "openai/video", prompt: "a tide" } });
  assert.ok(film.videos[0].url && film.model === "openai/video");
}
const form = () => client.videos.create({ model: "openai/video", prompt: "x" });
assert.match(String(await fails(OpenAI.BadRequestError, 1, form, 400)), /application\/json/);

// What the SDK tries again, at the same time: three requests each.
const odd = (call) => fails(OpenAI.InternalServerError, 3, call, 500, "unexpected_provider_response");
async function unavailable(call) {
  const error = await fails(OpenAI.InternalServerError, 3, call, 502, "service_unavailable");
  assert.equal(error.error.message, "Service temporarily unavailable");
}
await Promise.all([
  odd(() => chat("fails/weird")),
  odd(() => respond("fails/weird-responses", { stream: true })),
  unavailable(() => chat("fails/overload")),
  unavailable(() => chat("fails/overload-stream", { stream: true })),
  unavailable(() => respond("fails/overload-responses", { stream: true })),
  unavailable(() => client.completions.create({ model: "fails/completions", prompt: "x" })),
  unavailable(() => chat("fails/rate")),
  unavailable(() => chat("fails/broken-stream", { stream: true })),
  unavailable(() => respond("fails/broken-responses")),
  unavailable(() => chat("fails/closed-stream", { stream: true })),
  unavailable(() => chat("fails/credential")),
  unavailable(() => client.embeddings.create({ model: "fails/embed", input: "x" })),
  unavailable(() => client.post("/videos", { body: { model: "fails/video", prompt: "x" } })),
]);

// Limits.
const limited = client.withOptions({ apiKey: limitedKey, maxRetries: 0 });
await chat("openai/gpt", {}, limited);
const refused = await fails(OpenAI.RateLimitError, 1, () => chat("openai/gpt", {}, limited), 429, "requests_per_minute");
assert.ok(Number(refused.headers.get("retry-after")) >= 1);
console.log(`ok ${made()}`);
