"""LangChain's clients of OpenAI and Anthropic for Python, unmodified, against a running gateway.

Usage: langchain_python.py BASE_URL KEY NARROW_KEY LIMITED_KEY

Each check is one sentence of the contract; the first that does not hold ends the run with an error.
"""

import asyncio
import sys

import anthropic
import openai
from counting import count, count_async, here, made, together
from langchain_anthropic import ChatAnthropic
from langchain_core import exceptions
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

BASE_URL, KEY, NARROW_KEY, LIMITED_KEY = sys.argv[1:]
HTTP = openai.DefaultHttpxClient(event_hooks={"request": [count]})
ASYNC = openai.DefaultAsyncHttpxClient(event_hooks={"request": [count_async]})
UNAVAILABLE = "Service temporarily unavailable"


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


class Place(BaseModel):
    """A place."""

    city: str


def chat(model="openai/gpt", key=KEY, **more):
    """Chat completions; more members may choose Responses."""
    return ChatOpenAI(model=model, api_key=key, base_url=BASE_URL, http_client=HTTP, http_async_client=ASYNC, **more)


def respond(model="openai/gpt", **more):
    return chat(model, use_responses_api=True, **more)


def message(model="openai/gpt", key=KEY, **more):
    """Messages; this client takes no HTTP client of ours, so the hooks go to its own, which its instances share."""
    client = ChatAnthropic(model=model, api_key=key, base_url=BASE_URL.removesuffix("/v1"), max_tokens=64, **more)
    client._client._client.event_hooks = {"request": [count]}
    client._async_client._client.event_hooks = {"request": [count_async]}
    return client


def fails(expected, requests, call, status=None, code=None, words=None):
    """The call raises such an error after so many requests, the client's retries included."""
    before = here()
    try:
        call()
    except (openai.APIError, anthropic.APIError) as error:
        assert isinstance(error, expected), f"{type(error)} instead of {expected}: {error}"
        # What LangChain takes for too long a context forgets the status.
        if status is not None and not isinstance(error, exceptions.ContextOverflowError):
            assert error.status_code == status, error.status_code
        if code is not None:
            body = error.body.get("error", error.body)
            assert code in (body.get("code"), body.get("type")), error.body
        if words is not None:
            assert words in str(error), error
        requested = here() - before
        assert requested == requests, f"{requested} requests instead of {requests}: {error}"
        return error
    raise AssertionError(f"{expected} was not raised")


def answers():
    for client in [chat(), respond(), message(), chat("openai/failover")]:
        answer = client.invoke("hello")
        assert answer.text and answer.usage_metadata["output_tokens"] > 0, answer
    assert chat().invoke("hello").response_metadata["model_name"] == "openai/gpt"
    assert chat().invoke("hello").response_metadata["id"].startswith("gate-")
    assert respond().invoke("hello").response_metadata["id"].startswith("resp-gate-")
    assert message().invoke("hello").response_metadata["id"].startswith("msg_gate_")
    asked = [HumanMessage("hello")]
    asked += [respond("sandbox/gpt").invoke(asked), HumanMessage("and then?")]
    assert respond("sandbox/gpt", use_previous_response_id=True).invoke(asked).text, "the id of an answer leads back to it"
    assert [answer.text != "" for answer in chat().batch(["one", "two"])] == [True, True]
    assert OpenAI(model="sandbox/gpt", api_key=KEY, base_url=BASE_URL, http_client=HTTP).invoke("hello")
    vectors = OpenAIEmbeddings(
        model="openai/embed", api_key=KEY, base_url=BASE_URL, http_client=HTTP, dimensions=8, check_embedding_ctx_length=False
    )
    assert [len(vector) for vector in vectors.embed_documents(["a", "b"])] == [8, 8] and len(vectors.embed_query("a")) == 8


def streams():
    for client in [chat(stream_usage=True), respond(), message(), chat("openai/failover", stream_usage=True)]:
        whole = None
        for chunk in client.stream("hello"):
            whole = chunk if whole is None else whole + chunk
        assert whole.text and whole.usage_metadata["output_tokens"] > 0, whole
        assert whole.chunk_position == "last", whole
    assert all(chunk.usage_metadata is None for chunk in chat().stream("hello")), "usage is for those who ask for it"


async def asynchronous():
    for client in [chat(), respond(), message()]:
        assert (await client.ainvoke("hello")).text
        assert "".join([chunk.text async for chunk in client.astream("hello")])
    for client in [chat("fails/cut"), respond("fails/cut"), message("fails/cut")]:
        seen = ""
        try:
            async for chunk in client.astream("hello"):
                seen += chunk.text
        except (openai.APIError, anthropic.APIError) as error:
            assert seen and UNAVAILABLE in str(error), error
            continue
        raise AssertionError("a cut stream was taken for an answer")


def tools():
    """A call of a tool, its result, and the answer to that; whole and streamed."""
    # The sandbox calls tools in chat alone.
    for client in [chat(), chat("aimock/gpt"), respond("aimock/gpt"), message("aimock/gpt")]:
        forced = client.bind_tools([weather], tool_choice="any")
        asked = [HumanMessage("How is it in Paris?")]
        called = forced.invoke(asked)
        assert [(call["name"], call["args"]) for call in called.tool_calls] == [("weather", {"city": "Paris"})]
        asked += [called, weather.invoke(called.tool_calls[0])]
        assert client.bind_tools([weather]).invoke(asked).text
        whole = None
        for chunk in forced.stream("How is it in Paris?"):
            whole = chunk if whole is None else whole + chunk
        assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("weather", {"city": "Paris"})], whole


def structures():
    """Answers of a form: by a tool from both servers, by JSON from the one that can."""
    assert chat().with_structured_output(Place, method="function_calling").invoke("Where?").city == "Paris"
    other = chat("aimock/gpt")
    for method in ["json_mode", "json_schema"]:
        assert other.with_structured_output(Place, method=method).invoke("Where? In JSON.").city == "Paris"


def errors():
    bad, overflow = exceptions.ModelInvalidRequestError, exceptions.ContextOverflowError
    error = fails(bad, 1, lambda: chat("fails/parameter").invoke("hi"), 400, "invalid_request_error", "temperature")
    assert error.param == "temperature", error.param
    fails(bad, 1, lambda: chat("openai/embed").invoke("hi"), 400, "wrong_endpoint")
    for client in [chat, respond, message]:
        fails(bad, 1, lambda: client("fails/parameter").invoke("hi"), 400, None, "temperature")
        fails(bad, 1, lambda: list(client("fails/policy").stream("hi")), 400)
        wrong, narrow = client(key="wrong"), client(key=NARROW_KEY)
        fails(exceptions.ModelAuthenticationError, 1, lambda: wrong.invoke("hi"), 401)
        fails((openai.APIError, anthropic.APIError), 1, lambda: client("openai/priced").invoke("hi"), 402)
        fails(exceptions.ModelPermissionDeniedError, 1, lambda: list(narrow.stream("hi")), 403)
        kind = anthropic.RequestTooLargeError if client is message else overflow
        too_long = "prompt is too long" if client is message else "exceeds the context window"
        for call in [lambda: client("fails/context").invoke("hi"), lambda: list(client("fails/context").stream("hi"))]:
            fails(kind, 1, call, 413, None, too_long)
        none = "No available channel for model openai/none"
        fails(exceptions.ModelAPIError, 1, lambda: client("openai/none").invoke("hi"), 503, None, none)
        for model in ["fails/cut", "fails/error-mid"]:
            seen = []
            call = lambda: seen.extend(client(model).stream("hi"))
            fails((openai.APIError, anthropic.APIError), 1, call, None, None, UNAVAILABLE)
            assert "".join(chunk.text for chunk in seen), f"{client.__name__}: what was delivered was seen"


def unavailable(call):
    fails(exceptions.ModelAPIError, 3, call, 502, None, UNAVAILABLE)


def waits():
    """What is tried again, at the same time: three requests each."""
    odd = lambda call: fails(exceptions.ModelAPIError, 3, call, 500)
    together(
        lambda: odd(lambda: chat("fails/weird").invoke("hi")),
        lambda: odd(lambda: respond("fails/weird-responses").invoke("hi")),
        lambda: odd(lambda: message("fails/weird-messages").invoke("hi")),
        lambda: unavailable(lambda: chat("fails/overload").invoke("hi")),
        lambda: unavailable(lambda: list(chat("fails/overload-stream").stream("hi"))),
        lambda: unavailable(lambda: list(respond("fails/overload-responses").stream("hi"))),
        lambda: unavailable(lambda: list(message("fails/overload-messages").stream("hi"))),
        lambda: unavailable(lambda: chat("fails/rate").invoke("hi")),
        lambda: unavailable(lambda: message("fails/rate-messages").invoke("hi")),
        lambda: unavailable(lambda: respond("fails/broken-responses").invoke("hi")),
        lambda: unavailable(lambda: list(message("fails/closed-messages").stream("hi"))),
        lambda: unavailable(lambda: chat("fails/credential").invoke("hi")),
        lambda: unavailable(lambda: message("fails/credential-messages").invoke("hi")),
    )


def limits():
    limited = chat(key=LIMITED_KEY, max_retries=0)
    limited.invoke("hi")
    error = fails(exceptions.ModelRateLimitError, 1, lambda: limited.invoke("hi"), 429, "requests_per_minute")
    assert 1 <= int(error.response.headers["retry-after"]) <= 60
    limited = message(key=LIMITED_KEY, max_retries=0)
    fails(exceptions.ModelRateLimitError, 1, lambda: limited.invoke("hi"), 429, "rate_limit_error")


answers()
streams()
asyncio.run(asynchronous())
tools()
structures()
errors()
waits()
limits()
print("ok", len(made))
