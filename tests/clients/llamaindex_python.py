"""LlamaIndex's embeddings, unmodified, against a running gateway.

Usage: llamaindex_python.py BASE_URL KEY NARROW_KEY LIMITED_KEY

Each check is one sentence of the contract; the first that does not hold ends the run with an error.
"""

import asyncio
import sys

import httpx
import openai
from counting import count, count_async, made
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

BASE_URL, KEY, NARROW_KEY, LIMITED_KEY = sys.argv[1:]
# Each is far below the window of the model, 20 together are above it.
TEXTS = [f"{number} " + "word " * 500 for number in range(100)]

model = OpenAILikeEmbedding(
    model_name="openai/window",
    api_base=BASE_URL,
    api_key=KEY,
    dimensions=8,
    embed_batch_size=20,
    http_client=httpx.Client(event_hooks={"request": [count]}),
    async_http_client=httpx.AsyncClient(event_hooks={"request": [count_async]}),
)


def batches():
    vectors = model.get_text_embedding_batch(TEXTS)
    assert len(made) == 5, f"{len(made)} requests for five batches"
    assert [len(vector) for vector in vectors] == [8] * 100
    assert len({tuple(vector) for vector in vectors}) == 100, "each text has a vector of its own"
    assert model.get_text_embedding(TEXTS[57]) == vectors[57], "vectors are in the order of their texts"
    assert asyncio.run(model.aget_text_embedding_batch(TEXTS)) == vectors
    assert len(model.get_query_embedding("what is a word?")) == 8


def one_too_long():
    before = len(made)
    try:
        model.get_text_embedding("word " * 9000)
    except openai.APIStatusError as error:
        assert (error.status_code, error.code) == (413, "context_length_exceeded"), error
    else:
        raise AssertionError("a text above the window was embedded")
    assert len(made) == before + 1, "it is not tried again"


batches()
one_too_long()
print("ok", len(made))
