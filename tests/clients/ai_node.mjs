// The AI SDK for Node with its providers of OpenAI, Anthropic and whoever speaks like OpenAI, unmodified, against a
// running gateway.
//
// Usage: ai_node.mjs SDK_FOLDER BASE_URL KEY NARROW_KEY LIMITED_KEY
//
// Each check is one sentence of the contract; the first that does not hold ends the run with an error.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { counted, failure, made } from "./counting.mjs";

const [sdk, baseURL, apiKey, narrowKey, limitedKey] = process.argv.slice(2);
const [name, providers] = process.env.AI_SDK === "7" ? ["ai-7", "ai-7-"] : ["ai", "@ai-sdk/"];
const load = (name) => import(createRequire(`${sdk}/`).resolve(name));
const { APICallError, Output, RetryError, embed, embedMany, generateImage, generateText, stepCountIs, streamText, tool } =
  await load(name);
const { createAnthropic } = await load(`${providers}anthropic`);
const { createOpenAI } = await load(`${providers}openai`);
const { createOpenAICompatible } = await load(`${providers}openai-compatible`);
const { z } = await load("zod");

const UNAVAILABLE = "Service temporarily unavailable";
const prompt = "hello";
const openai = createOpenAI({ baseURL, apiKey, fetch: counted });
const compatible = createOpenAICompatible({ name: "tidegate", baseURL, apiKey, fetch: counted, includeUsage: true });
// The provider of Anthropic does not know these models and warns of it unless it is told the longest answer.
const maxOutputTokens = 64;

/** The models of each way to converse, for a key. */
const ways = (apiKey) => ({
  chat: createOpenAI({ baseURL, apiKey, fetch: counted }).chat,
  responses: createOpenAI({ baseURL, apiKey, fetch: counted }),
  messages: createAnthropic({ baseURL, apiKey, fetch: counted }),
  compatible: createOpenAICompatible({ name: "tidegate", baseURL, apiKey, fetch: counted, includeUsage: true }),
});
const ours = ways(apiKey);
const ids = { chat: /^gate-/, responses: /^resp-gate-/, messages: /^msg_gate_/, compatible: /^gate-/ };
const generate = (model, more = {}) => generateText({ model, prompt, maxOutputTokens, ...more });

/** All parts of a stream; its errors are among them, since the SDK does not throw them. */
async function parts(model, more = {}) {
  const found = [];
  const stream = streamText({ model, prompt, maxOutputTokens, onError: () => {}, ...more });
  for await (const part of stream.fullStream) found.push(part);
  return found;
}
const text = (parts) => parts.filter((part) => part.type === "text-delta").map((part) => part.text).join("");

/** The call throws an error of the API with this status and these words, after so many requests, retries included. */
async function fails(requests, call, status, words) {
  let { error, made } = await failure(call);
  assert.ok(error, `${status} was not thrown`);
  if (RetryError.isInstance(error)) error = error.lastError;
  assert.ok(APICallError.isInstance(error), `${error?.constructor?.name}: ${error}`);
  assert.equal(error.statusCode, status, String(error));
  if (words) assert.ok(error.message.includes(words), error.message);
  assert.equal(made, requests, `requests made for ${error}`);
  return error;
}

/** The same for a stream that fails before its first part: the error is its only content. */
const failsStreaming = (requests, model, status, words, more) =>
  fails(
    requests,
    async () => {
      const found = await parts(model, more);
      const errors = found.filter((part) => part.type === "error");
      assert.ok(errors.length === 1 && !found.some((part) => part.type === "finish"), JSON.stringify(found));
      throw errors[0].error;
    },
    status,
    words,
  );

// Answers and streams.
for (const [way, model] of Object.entries(ours)) {
  for (const id of ["openai/gpt", "openai/failover"]) {
    const answer = await generate(model(id));
    assert.ok(answer.text && answer.usage.outputTokens > 0 && answer.finishReason === "stop", way);
    assert.equal(answer.response.modelId, id);
    assert.match(answer.response.id, ids[way]);
    const found = await parts(model(id));
    const end = found.at(-1);
    assert.ok(text(found) && end.type === "finish" && end.finishReason === "stop", way);
    assert.ok(end.totalUsage.outputTokens > 0, way);
  }
}
assert.ok((await generate(openai.completion("sandbox/gpt"))).text);
const { embeddings } = await embedMany({ model: openai.embedding("openai/embed"), values: ["a", "b"] });
assert.ok(embeddings.length === 2 && embeddings[0].length > 1);
for (const model of [openai.image("openai/image"), compatible.imageModel("openai/image")]) {
  assert.ok((await generateImage({ model, prompt: "a boat" })).image.base64);
}

// Rounds with tools; the sandbox calls them in chat alone.
const weather = tool({ inputSchema: z.object({ city: z.string() }), execute: ({ city }) => `sunny in ${city}` });
const rounds = {
  tools: { weather },
  stopWhen: stepCountIs(2),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "auto" }),
};
const callers = [ours.chat("openai/gpt"), ours.compatible("openai/gpt")];
for (const model of [...callers, ...Object.values(ours).map((model) => model("aimock/gpt"))]) {
  const answer = await generate(model, rounds);
  assert.equal(answer.steps.length, 2);
  assert.deepEqual(answer.steps[0].toolCalls[0].input, { city: "Paris" });
  assert.equal(answer.steps[0].toolResults[0].output, "sunny in Paris");
  assert.ok(answer.text && answer.finishReason === "stop");
  const found = await parts(model, rounds);
  assert.deepEqual(found.find((part) => part.type === "tool-call").input, { city: "Paris" });
  assert.ok(text(found) && found.at(-1).finishReason === "stop");
}
for (const model of [ours.chat, ours.responses, ours.compatible]) {
  const output = Output.object({ schema: z.object({ city: z.string() }) });
  // Of Responses aimock knows the words alone.
  const { output: place } = await generate(model("aimock/gpt"), { output, prompt: "Where, by the schema?" });
  assert.deepEqual(place, { city: "Paris" });
}

// Reasoning; the provider of OpenAI reads none in chat.
for (const way of ["responses", "messages", "compatible"]) {
  const answer = await generate(ours[way]("aimock/thinks"));
  assert.equal(answer.text, "It is high tide.", way);
  assert.equal(answer.reasoningText, "The tide turns twice a day.", way);
  const found = await parts(ours[way]("aimock/thinks"));
  const thought = found.filter((part) => part.type === "reasoning-delta").map((part) => part.text).join("");
  assert.equal(thought, "The tide turns twice a day.", way);
  const cut = await parts(ours[way]("aimock/thinks-in-vain"), { maxRetries: 0 });
  assert.ok(cut.some((part) => part.type === "error" && part.error.message === UNAVAILABLE), way);
}

// The dialects of Azure and Gemini.
for (const id of ["azure/gpt", "gemini/gpt"]) {
  assert.equal((await generate(ours.chat(id))).response.modelId, id);
  assert.equal((await parts(ours.chat(id), rounds)).filter((part) => part.type === "tool-call").length, 1);
}
const { embedding } = await embed({ model: openai.embedding("azure/embed"), value: "a" });
assert.ok(embedding.length > 1);

// Errors.
const [wrong, narrow] = [ways("wrong"), ways(narrowKey)];
for (const [way, model] of Object.entries(ours)) {
  await fails(1, () => generate(model("fails/parameter")), 400, "temperature");
  await failsStreaming(1, model("fails/policy"), 400);
  await fails(1, () => generate(model("openai/embed")), 400, "/v1/embeddings");
  await fails(1, () => generate(wrong[way]("openai/gpt")), 401);
  await fails(1, () => generate(model("openai/priced")), 402);
  await failsStreaming(1, narrow[way]("openai/gpt"), 403);
  const words = way === "messages" ? "prompt is too long" : "exceeds the context window";
  await fails(1, () => generate(model("fails/context")), 413, words);
  // This SDK does not heed x-should-retry.
  const none = await fails(1, () => generate(model("openai/none"), { maxRetries: 0 }), 503, "No available channel");
  assert.equal(none.responseHeaders["x-should-retry"], "false");
  for (const failing of ["fails/cut", "fails/error-mid"]) {
    const found = await parts(model(failing));
    const errors = found.filter((part) => part.type === "error");
    assert.deepEqual(errors.map(({ error }) => error.message), [UNAVAILABLE], way);
    assert.ok(text(found) && found.at(-1).finishReason === "error", `${way}: what was delivered was seen`);
  }
}

// What is tried again, at the same time: three requests each.
await Promise.all([
  fails(3, () => generate(ours.chat("fails/weird")), 500),
  fails(3, () => generate(ours.responses("fails/weird-responses")), 500),
  fails(3, () => generate(ours.messages("fails/weird-messages")), 500),
  fails(3, () => generate(ours.chat("fails/overload")), 502, UNAVAILABLE),
  failsStreaming(3, ours.compatible("fails/overload-stream"), 502, UNAVAILABLE),
  failsStreaming(3, ours.responses("fails/overload-responses"), 502, UNAVAILABLE),
  failsStreaming(3, ours.messages("fails/overload-messages"), 502, UNAVAILABLE),
  fails(3, () => generate(ours.chat("fails/rate")), 502, UNAVAILABLE),
  fails(3, () => generate(ours.messages("fails/rate-messages")), 502, UNAVAILABLE),
  fails(3, () => generate(ours.responses("fails/broken-responses")), 502, UNAVAILABLE),
  failsStreaming(3, ours.chat("fails/closed-stream"), 502, UNAVAILABLE),
  fails(3, () => generate(ours.compatible("fails/credential")), 502, UNAVAILABLE),
  fails(3, () => generate(ours.messages("fails/credential-messages")), 502, UNAVAILABLE),
  fails(3, () => generate(ours.chat("openai/none")), 503, "No available channel"),
]);

// Limits.
const limited = ways(limitedKey);
await generate(limited.chat("openai/gpt"));
for (const model of Object.values(limited)) {
  const refused = await fails(1, () => generate(model("openai/gpt"), { maxRetries: 0 }), 429);
  assert.ok(Number(refused.responseHeaders["retry-after"]) >= 1);
}
console.log(`ok ${made()}`);
