"""The official OpenAI SDK for Python, unmodified, against a running gateway.

Usage: openai_python.py BASE_URL KEY NARROW_KEY LIMITED_KEY

Each check is one sentence of the contract; the first that does not hold ends the run with an error.
"""

import sys

import openai
from counting import count, here, made, together
from openai import OpenAI
from pydantic import BaseModel

BASE_URL, KEY, NARROW_KEY, LIMITED_KEY = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]

counted = openai.DefaultHttpxClient(event_hooks={"request": [count]})
client = OpenAI(base_url=BASE_URL, api_key=KEY, http_client=counted)


class Place(BaseModel):
    city: str


def fails(expected, requests, call, status=None, code=None):
    """The call raises exactly `expected` after so many requests, the SDK's retries included."""
    before = here()
    try:
        call()
    except openai.APIError as error:
        assert type(error) is expected, f"{type(error)} instead of {expected}: {error}"
        if status is not None:
            assert error.status_code == status, error.status_code
            assert error.request_id, "an error names the request"
        if code is not None:
            assert error.code == code, error.code
        requested = here() - before
        assert requested == requests, f"{requested} requests instead of {requests}: {error}"
        return error
    raise AssertionError(f"{expected} was not raised")


def chat(model="openai/gpt", using=client, **more):
    return using.chat.completions.create(model=model, messages=MESSAGES, **more)


def answers():
    answer = chat()
    assert answer.model == "openai/gpt" and answer.id.startswith("gate-")
    assert answer.choices[0].message.content and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0
    assert answer._request_id
    assert len(chat("sandbox/gpt", n=3).choices) == 3
    called = chat(tools=TOOLS, tool_choice="required").choices[0]
    assert called.finish_reason == "tool_calls"
    assert called.message.tool_calls[0].function.name == "weather"
    text = client.completions.create(model="sandbox/gpt", prompt="hello")
    assert text.choices[0].text and text.id.startswith("gate-") and text.model == "sandbox/gpt"
    vectors = client.embeddings.create(model="openai/embed", input=["a", "b"], dimensions=8)
    assert len(vectors.data) == 2 and len(vectors.data[0].embedding) == 8
    assert len(client.embeddings.create(model="openai/embed", input="a", encoding_format="float", dimensions=8).data[0].embedding) == 8
    assert client.images.generate(model="openai/image", prompt="a boat").data[0].b64_json
    assert "openai/gpt" in [model.id for model in client.models.list()]
    assert client.models.retrieve("openai/gpt").id == "openai/gpt"
    assert client.get("/balance", cast_to=object)["object"] == "balance"
    # Clients are configured with the version in the base URL and without (spec 1.1).
    assert chat(using=client.with_options(base_url=BASE_URL.removesuffix("/v1"))).model == "openai/gpt"
    assert client.with_raw_response.chat.completions.create(model="openai/gpt", messages=MESSAGES).status_code == 200


def streams():
    chunks = list(chat(stream=True))
    assert all(chunk.model == "openai/gpt" and chunk.usage is None for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage is not None for chunk in chunks].count(True) == 1
    assert chunks[-1].usage.completion_tokens > 0 and chunks[-1].choices == []
    pieces = list(chat(stream=True, tools=TOOLS, tool_choice="required"))
    calls = [call for chunk in pieces for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert calls[0].function.name == "weather"
    assert "Paris" in "".join(call.function.arguments or "" for call in calls)
    with client.chat.completions.stream(model="openai/gpt", messages=MESSAGES) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.content
    assert list(client.completions.create(model="sandbox/gpt", prompt="hello", stream=True))
    assert chat("openai/failover").model == "openai/failover", "another channel answers"
    assert list(chat("openai/failover", stream=True))[-1].choices[0].finish_reason == "stop"


def dialects():
    """The dialects of Azure and Gemini, and answers of a form."""
    for model in ["azure/gpt", "gemini/gpt"]:
        answer = chat(model)
        assert answer.model == model and answer.choices[0].message.content
        assert chat(model, tools=TOOLS).choices[0].message.tool_calls[0].function.name == "weather"
        chunks = list(chat(model, stream=True, stream_options={"include_usage": True}))
        assert chunks[-1].usage.completion_tokens > 0 and chunks[-2].choices[0].finish_reason == "stop"
    assert client.embeddings.create(model="azure/embed", input="a", encoding_format="float").data[0].embedding
    parsed = client.chat.completions.parse(model="aimock/gpt", messages=MESSAGES, response_format=Place)
    assert parsed.choices[0].message.parsed.city == "Paris"


def errors():
    wrong, narrow = client.with_options(api_key="wrong"), client.with_options(api_key=NARROW_KEY)
    fails(openai.BadRequestError, 1, lambda: chat(n=0), 400, "invalid_value")
    fails(openai.BadRequestError, 1, lambda: chat("openai/embed"), 400, "wrong_endpoint")
    fails(openai.BadRequestError, 1, lambda: chat("fails/parameter"), 400, "invalid_value")
    fails(openai.BadRequestError, 1, lambda: chat("fails/policy"), 400, "content_policy_violation")
    fails(openai.AuthenticationError, 1, lambda: chat(using=wrong), 401, "invalid_api_key")
    fails(openai.PermissionDeniedError, 1, lambda: chat(using=narrow), 403, "model_access_denied")
    fails(openai.PermissionDeniedError, 1, lambda: chat("openai/verified"), 403, "verification_required")
    fails(openai.APIStatusError, 1, lambda: chat("openai/priced"), 402, "insufficient_quota")
    fails(openai.NotFoundError, 1, lambda: client.files.list(), 404, "not_found")
    fails(openai.NotFoundError, 1, lambda: client.responses.retrieve("resp-gate-x"), 404, "not_found")
    fails(openai.NotFoundError, 1, lambda: client.models.retrieve("openai/none"), 404, "model_not_found")
    fails(openai.APIStatusError, 1, lambda: chat("fails/context"), 413, "context_length_exceeded")
    fails(openai.InternalServerError, 1, lambda: chat("openai/none"), 503, "model_not_found")
    for model in ["fails/cut", "fails/error-mid"]:
        error = fails(openai.APIError, 1, lambda: list(chat(model, stream=True)))
        assert "Service temporarily unavailable" in str(error), error


def unavailable(requests, call):
    """The call fails as whatever overloads or breaks behind the gateway does (spec 2.9)."""
    error = fails(openai.InternalServerError, requests, call, 502, "service_unavailable")
    assert error.body["message"] == "Service temporarily unavailable", error.body
    assert 1 <= int(error.response.headers["retry-after"]) <= 60


def respond(model="openai/gpt", using=client, **more):
    return using.responses.create(model=model, input="hello", **more)


def responses():
    answer = respond()
    assert answer.model == "openai/gpt" and answer.id.startswith("resp-gate-") and answer.output_text
    assert answer.usage.output_tokens > 0
    events = list(respond(stream=True))
    assert events[0].response.model == "openai/gpt" and events[-1].type == "response.completed"
    assert events[-1].response.id == events[0].response.id
    with client.responses.stream(model="openai/failover", input="hello") as stream:
        assert stream.get_final_response().output_text
    fails(openai.BadRequestError, 1, lambda: respond("fails/parameter"), 400, "invalid_value")
    fails(openai.APIStatusError, 1, lambda: respond("fails/context"), 413, "context_length_exceeded")
    for model in ["fails/cut", "fails/error-mid"]:
        error = fails(openai.APIError, 1, lambda: list(respond(model, stream=True)))
        assert "Service temporarily unavailable" in str(error), error


def images():
    two = client.images.generate(model="sandbox/image", prompt="a boat", size="1024x1024", n=2)
    assert len(two.data) == 2 and two.usage.output_tokens > 0
    fails(openai.BadRequestError, 1, lambda: client.images.generate(model="openai/image", prompt="x", size="1x1"), 400, "invalid_image_size")
    fails(openai.BadRequestError, 1, lambda: client.images.generate(model="openai/gpt", prompt="x"), 400, "wrong_endpoint")
    picture = bytes(range(256)) * 1000
    files = [("b\u00f6at.png", picture), ("b.png", picture)]
    for image in [files[0], files]:
        for model in ["openai/image", "sandbox/image"]:
            edited = client.images.edit(model=model, image=image, mask=("m.png", picture), prompt="a \u00e9 boat", size="auto")
            assert edited.data[0].b64_json
        assert edited.usage.input_tokens_details.image_tokens > 0
    # The SDK sends forms alone; the route takes JSON as well.
    of_json = {"model": "sandbox/image", "prompt": "x", "images": [{"image_url": "data:image/png;base64,iVBORw0KGgo="}]}
    edited = client.post("/images/edits", body=of_json, cast_to=openai.types.ImagesResponse)
    assert edited.data[0].b64_json and edited.usage.input_tokens_details.image_tokens > 0
    fails(openai.BadRequestError, 1, lambda: client.images.edit(model="openai/image", image=files[0], prompt="x", size="1x1"), 400, "invalid_image_size")
    streamed = list(client.images.generate(model="sandbox/image", prompt="x", stream=True, partial_images=2))
    partial = "image_generation.partial_image"
    assert [event.type for event in streamed] == [partial, partial, "image_generation.completed"]
    assert [event.partial_image_index for event in streamed[:2]] == [0, 1]
    assert streamed[-1].b64_json and streamed[-1].usage.output_tokens > 0
    streamed = list(client.images.edit(model="sandbox/image", image=files, prompt="x", stream=True, partial_images=1))
    assert [event.type for event in streamed] == ["image_edit.partial_image", "image_edit.completed"]
    for model in ["fails/image-cut", "fails/image-error"]:
        call = lambda: list(client.images.generate(model=model, prompt="x", stream=True, partial_images=1))
        error = fails(openai.APIError, 1, call)
        assert "Service temporarily unavailable" in str(error), error
    answer = chat("google/image").choices[0].message
    assert answer.content is None and answer.images[0]["image_url"]["url"].startswith("data:image/png;base64,")
    chunks = list(chat("google/image", stream=True))
    assert any(getattr(chunk.choices[0].delta, "images", None) for chunk in chunks)


def compaction():
    compact = lambda model, **more: client.responses.compact(model=model, input="hello", **more)
    answer = compact("sandbox/gpt")
    assert answer.id.startswith("resp-gate-") and answer.object == "response.compaction", answer
    assert answer.output[-1].type == "compaction" and answer.output[-1].encrypted_content
    assert answer.usage.total_tokens > 0
    assert compact("sandbox/gpt", previous_response_id=respond("sandbox/gpt").id).output
    assert compact("openai/failover").output, "another channel answers"
    fails(openai.BadRequestError, 1, lambda: compact("openai/embed"), 400, "wrong_endpoint")


def videos():
    """The route is synchronous and takes JSON (spec 1.1, 4.3); the SDK's own call leaves a job by a form."""
    for path in ["/videos", "/video/generations"]:
        film = client.post(path, body={"model": "openai/video", "prompt": "a tide"}, cast_to=object)
        assert film["videos"][0]["url"] and film["model"] == "openai/video", film
    error = fails(openai.BadRequestError, 1, lambda: client.videos.create(model="openai/video", prompt="x"), 400)
    assert "application/json" in str(error), error


def waits():
    """What the SDK tries again, at the same time: three requests each."""
    body = {"model": "fails/video", "prompt": "x"}
    legacy = lambda: client.completions.create(model="fails/completions", prompt="x")
    odd = "unexpected_provider_response"
    together(
        lambda: fails(openai.InternalServerError, 3, lambda: chat("fails/weird"), 500, odd),
        lambda: fails(openai.InternalServerError, 3, lambda: chat("fails/weird-stream", stream=True), 500, odd),
        lambda: fails(openai.InternalServerError, 3, lambda: respond("fails/weird-responses"), 500, odd),
        lambda: unavailable(3, lambda: chat("fails/overload")),
        lambda: unavailable(3, lambda: chat("fails/overload-stream", stream=True)),
        lambda: unavailable(3, lambda: respond("fails/overload-responses", stream=True)),
        lambda: unavailable(3, legacy),
        lambda: unavailable(3, lambda: chat("fails/rate")),
        lambda: unavailable(3, lambda: respond("fails/rate-responses")),
        lambda: unavailable(3, lambda: chat("fails/broken")),
        lambda: unavailable(3, lambda: respond("fails/broken-responses", stream=True)),
        lambda: unavailable(3, lambda: chat("fails/closed")),
        lambda: unavailable(3, lambda: respond("fails/closed-responses", stream=True)),
        lambda: unavailable(3, lambda: chat("fails/credential")),
        lambda: unavailable(3, lambda: respond("fails/credential-responses")),
        lambda: unavailable(3, lambda: client.embeddings.create(model="fails/embed", input="x")),
        lambda: unavailable(3, lambda: client.post("/videos", body=body, cast_to=object)),
    )


def limits():
    limited = client.with_options(api_key=LIMITED_KEY, max_retries=0)
    raw = limited.chat.completions.with_raw_response.create(model="openai/gpt", messages=MESSAGES)
    assert raw.headers["x-ratelimit-limit-requests"] == "1"
    error = fails(openai.RateLimitError, 1, lambda: chat(using=limited), 429, "requests_per_minute")
    assert 1 <= int(error.response.headers["retry-after"]) <= 60


answers()
streams()
dialects()
errors()
responses()
compaction()
images()
videos()
waits()
limits()
print("ok", len(made))
