"""The official OpenAI SDK for Python, unmodified, against a running gateway.

Usage: openai_python.py BASE_URL KEY NARROW_KEY LIMITED_KEY

Each check is one sentence of the contract; the first that does not hold ends the run with an error.
"""

import sys

import openai
from openai import OpenAI

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

made = []
counted = openai.DefaultHttpxClient(event_hooks={"request": [made.append]})
client = OpenAI(base_url=BASE_URL, api_key=KEY, http_client=counted)


def fails(expected, requests, call, status=None, code=None):
    """The call raises exactly `expected` after so many requests, the SDK's retries included."""
    before = len(made)
    try:
        call()
    except openai.APIError as error:
        assert type(error) is expected, f"{type(error)} instead of {expected}: {error}"
        if status is not None:
            assert error.status_code == status, error.status_code
            assert error.request_id, "an error names the request"
        if code is not None:
            assert error.code == code, error.code
        count = len(made) - before
        assert count == requests, f"{count} requests instead of {requests}: {error}"
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
    assert len(chat(n=3).choices) == 3
    called = chat(tools=TOOLS, tool_choice="required").choices[0]
    assert called.finish_reason == "tool_calls"
    assert called.message.tool_calls[0].function.name == "weather"
    text = client.completions.create(model="openai/gpt", prompt="hello")
    assert text.choices[0].text
    vectors = client.embeddings.create(model="openai/embed", input=["a", "b"], dimensions=8)
    assert len(vectors.data) == 2 and len(vectors.data[0].embedding) == 8
    assert client.images.generate(model="openai/image", prompt="a boat").data[0].b64_json
    assert "openai/gpt" in [model.id for model in client.models.list()]
    assert client.models.retrieve("openai/gpt").id == "openai/gpt"
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
    assert list(client.completions.create(model="openai/gpt", prompt="hello", stream=True))
    assert chat("openai/failover").model == "openai/failover", "another channel answers"
    assert list(chat("openai/failover", stream=True))[-1].choices[0].finish_reason == "stop"


def errors():
    wrong, narrow = client.with_options(api_key="wrong"), client.with_options(api_key=NARROW_KEY)
    fails(openai.BadRequestError, 1, lambda: chat(n=0), 400, "invalid_value")
    fails(openai.BadRequestError, 1, lambda: chat("openai/embed"), 400, "wrong_endpoint")
    fails(openai.BadRequestError, 1, lambda: chat("fails/parameter"), 400, "invalid_request_error")
    fails(openai.BadRequestError, 1, lambda: chat("fails/policy"), 400, "content_policy_violation")
    fails(openai.AuthenticationError, 1, lambda: chat(using=wrong), 401, "invalid_api_key")
    fails(openai.PermissionDeniedError, 1, lambda: chat(using=narrow), 403, "model_access_denied")
    fails(openai.PermissionDeniedError, 1, lambda: chat("openai/verified"), 403, "verification_required")
    fails(openai.NotFoundError, 1, lambda: client.models.retrieve("openai/none"), 404, "model_not_found")
    fails(openai.APIStatusError, 1, lambda: chat("fails/context"), 413, "context_length_exceeded")
    fails(openai.InternalServerError, 1, lambda: chat("openai/none"), 503, "model_not_found")
    fails(openai.InternalServerError, 3, lambda: chat("fails/weird"), 500, "unexpected_provider_response")
    fails(openai.InternalServerError, 3, lambda: chat("fails/overload"), 502, "service_unavailable")
    fails(openai.InternalServerError, 3, lambda: chat("fails/overload", stream=True), 502, "service_unavailable")
    fails(openai.InternalServerError, 3, lambda: chat("fails/credential"), 502, "service_unavailable")
    for model in ["fails/cut", "fails/error-mid"]:
        error = fails(openai.APIError, 1, lambda: list(chat(model, stream=True)))
        assert "Service temporarily unavailable" in str(error), error


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
    fails(openai.BadRequestError, 1, lambda: respond("fails/parameter"), 400, "invalid_request_error")
    fails(openai.APIStatusError, 1, lambda: respond("fails/context"), 413, "context_length_exceeded")
    fails(openai.InternalServerError, 3, lambda: respond("fails/weird"), 500, "unexpected_provider_response")
    fails(openai.InternalServerError, 3, lambda: respond("fails/overload", stream=True), 502, "service_unavailable")
    for model in ["fails/cut", "fails/error-mid"]:
        error = fails(openai.APIError, 1, lambda: list(respond(model, stream=True)))
        assert "Service temporarily unavailable" in str(error), error


def compaction():
    compact = lambda model, **more: client.responses.compact(model=model, input="hello", **more)
    answer = compact("openai/gpt")
    assert answer.id.startswith("resp-gate-") and answer.object == "response.compaction", answer
    assert answer.output[-1].type == "compaction" and answer.output[-1].encrypted_content
    assert answer.usage.total_tokens > 0
    assert compact("openai/gpt", previous_response_id=respond().id).output and compact("openai/failover").output
    fails(openai.APIStatusError, 1, lambda: compact("fails/context"), 413, "context_length_exceeded")
    fails(openai.BadRequestError, 1, lambda: compact("openai/embed"), 400, "wrong_endpoint")


def limits():
    limited = client.with_options(api_key=LIMITED_KEY, max_retries=0)
    raw = limited.chat.completions.with_raw_response.create(model="openai/gpt", messages=MESSAGES)
    assert raw.headers["x-ratelimit-limit-requests"] == "1"
    error = fails(openai.RateLimitError, 1, lambda: chat(using=limited), 429, "requests_per_minute")
    assert 1 <= int(error.response.headers["retry-after"]) <= 60


answers()
streams()
errors()
responses()
compaction()
limits()
print("ok", len(made))
