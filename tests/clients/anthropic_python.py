"""The official Anthropic SDK for Python, unmodified, against a running gateway.

Usage: anthropic_python.py BASE_URL KEY NARROW_KEY LIMITED_KEY

Each check is one sentence of the contract; the first that does not hold ends the run with an error.
"""

import sys

import anthropic
from anthropic import Anthropic
from counting import count, here, made, together

BASE_URL, KEY, NARROW_KEY, LIMITED_KEY = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "hello"}]

counted = anthropic.DefaultHttpxClient(event_hooks={"request": [count]})
client = Anthropic(base_url=BASE_URL.removesuffix("/v1"), api_key=KEY, http_client=counted)


def fails(expected, requests, call, status=None, kind=None):
    """The call raises exactly `expected` after so many requests, the SDK's retries included."""
    before = here()
    try:
        call()
    except anthropic.APIError as error:
        assert type(error) is expected, f"{type(error)} instead of {expected}: {error}"
        if status is not None:
            assert error.status_code == status, error.status_code
            assert error.request_id, "an error names the request"
        if kind is not None:
            assert error.body["error"]["type"] == kind, error.body
        requested = here() - before
        assert requested == requests, f"{requested} requests instead of {requests}: {error}"
        return error
    raise AssertionError(f"{expected} was not raised")


def message(model="openai/gpt", using=client, **more):
    return using.messages.create(model=model, max_tokens=64, messages=MESSAGES, **more)


def answers():
    answer = message()
    assert answer.model == "openai/gpt" and answer.id.startswith("msg_gate_"), answer
    assert answer.content[0].text and answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0 and answer._request_id
    assert message("openai/failover").model == "openai/failover", "another channel answers"


    beta = client.beta.messages.create(model="openai/gpt", max_tokens=64, messages=MESSAGES, betas=["output-300k-2026-03-24"])
    assert beta.content[0].text and beta.id.startswith("msg_gate_")
    thought = message("aimock/thinks").content[0]
    assert thought.thinking == "The tide turns twice a day." and thought.signature


def streams():
    events = list(message(stream=True))
    assert events[0].type == "message_start" and events[0].message.model == "openai/gpt"
    assert events[0].message.id.startswith("msg_gate_") and events[-1].type == "message_stop"
    with client.messages.stream(model="openai/gpt", max_tokens=64, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream)
        assert stream.get_final_message().stop_reason == "end_turn"
    assert list(message("openai/failover", stream=True))[-1].type == "message_stop"


def counts():
    assert client.messages.count_tokens(model="sandbox/gpt", messages=MESSAGES).input_tokens > 0
    assert client.messages.count_tokens(model="openai/failover", messages=MESSAGES).input_tokens > 0
    call = lambda: client.messages.count_tokens(model="openai/embed", messages=MESSAGES)
    fails(anthropic.BadRequestError, 1, call, 400, "invalid_request_error")


def models():
    # The list has OpenAI's shape; this SDK finds the ids in it and sees that there is one page.
    ids = [model.id for model in client.models.list()]
    assert "openai/gpt" in ids and "openai/none" not in ids, ids
    assert client.models.retrieve("openai/gpt").id == "openai/gpt"
    assert client.get("/v1/balance", cast_to=object)["object"] == "balance"
    assert {model.id.split("/")[0] for model in client.with_options(api_key=NARROW_KEY).models.list()} == {"fails"}


def errors():
    wrong, narrow = client.with_options(api_key="wrong"), client.with_options(api_key=NARROW_KEY)
    bad = "invalid_request_error"
    fails(anthropic.BadRequestError, 1, lambda: message("openai/embed"), 400, bad)
    error = fails(anthropic.BadRequestError, 1, lambda: message("fails/parameter"), 400, bad)
    assert "temperature" in str(error), error
    fails(anthropic.BadRequestError, 1, lambda: message("fails/policy"), 400, bad)
    fails(anthropic.AuthenticationError, 1, lambda: message(using=wrong), 401, "authentication_error")
    fails(anthropic.PaymentRequiredError, 1, lambda: message("openai/priced"), 402, "billing_error")
    fails(anthropic.PermissionDeniedError, 1, lambda: message(using=narrow), 403, "permission_error")
    error = fails(anthropic.RequestTooLargeError, 1, lambda: message("fails/context"), 413, "request_too_large")
    assert "prompt is too long" in str(error), error
    missing = fails(anthropic.ServiceUnavailableError, 1, lambda: message("openai/none"), 503, "api_error")
    assert "No available channel for model openai/none" in str(missing)
    for model in ["fails/cut", "fails/error-mid"]:
        error = fails(anthropic.APIStatusError, 1, lambda: list(message(model, stream=True)))
        assert "Service temporarily unavailable" in str(error), error


def tools():
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    call = lambda **more: client.messages.create(model="aimock/gpt", max_tokens=64, tools=[tool], **more)
    answer = call(messages=MESSAGES)
    used = next(block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use" and (used.name, used.input) == ("weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": used.id, "content": "sunny"}
    turns = [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    assert "sunny" in call(messages=MESSAGES + turns).content[0].text
    with client.messages.stream(model="aimock/gpt", max_tokens=64, tools=[tool], messages=MESSAGES) as stream:
        assert stream.get_final_message().content[-1].input == {"city": "Paris"}


def unavailable(call):
    """The call fails as whatever overloads or breaks behind the gateway does (spec 2.9)."""
    error = fails(anthropic.InternalServerError, 3, call, 502, "api_error")
    assert error.body["error"]["message"] == "Service temporarily unavailable", error.body


def waits():
    """What the SDK tries again, at the same time: three requests each."""
    odd = lambda call: fails(anthropic.InternalServerError, 3, call, 500, "api_error")
    together(
        lambda: odd(lambda: message("fails/weird")),
        lambda: odd(lambda: message("fails/weird-stream", stream=True)),
        lambda: unavailable(lambda: message("fails/overload")),
        lambda: unavailable(lambda: message("fails/overload-stream", stream=True)),
        lambda: unavailable(lambda: message("fails/credential")),
        lambda: unavailable(lambda: message("fails/credential-stream", stream=True)),
        lambda: unavailable(lambda: message("fails/rate")),
        lambda: unavailable(lambda: message("fails/broken")),
        lambda: unavailable(lambda: message("fails/closed")),
        lambda: unavailable(lambda: client.messages.count_tokens(model="fails/completions", messages=MESSAGES)),
    )


def limits():
    limited = client.with_options(api_key=LIMITED_KEY, max_retries=0)
    message(using=limited)
    error = fails(anthropic.RateLimitError, 1, lambda: message(using=limited), 429, "rate_limit_error")
    assert 1 <= int(error.response.headers["retry-after"]) <= 60


answers()
streams()
counts()
models()
tools()
errors()
waits()
limits()
print("ok", len(made))
