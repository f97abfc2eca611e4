"""Haystack's embedders, unmodified, against a running gateway.

Usage: haystack_python.py BASE_URL KEY NARROW_KEY LIMITED_KEY

Each check is one sentence of the contract; the first that does not hold ends the run with an error.
"""

import os
import sys

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from counting import count, made
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

BASE_URL, KEY, NARROW_KEY, LIMITED_KEY = sys.argv[1:]
# Each is far below the window of the model, a batch of them is above it.
DOCUMENTS = [Document(content=f"{number} " + "word " * 500) for number in range(100)]

shared = {
    "api_key": Secret.from_token(KEY),
    "api_base_url": BASE_URL,
    "model": "openai/window",
    "dimensions": 8,
    "http_client_kwargs": {"event_hooks": {"request": [count]}},
}
embedder = OpenAIDocumentEmbedder(progress_bar=False, batch_size=32, **shared)


def batches():
    """An embedder that goes on after a failure leaves no document without its vector."""
    embedded = embedder.run(documents=DOCUMENTS)
    without = [document.id for document in embedded["documents"] if not document.embedding]
    assert not without, f"{len(without)} of 100 documents have no embedding"
    assert len(made) == 4, f"{len(made)} requests for four batches"
    assert len({tuple(document.embedding) for document in embedded["documents"]}) == 100
    assert embedded["meta"]["usage"]["prompt_tokens"] > 0
    alone = OpenAITextEmbedder(**shared).run(text=DOCUMENTS[57].content)
    assert alone["embedding"] == embedded["documents"][57].embedding
    assert alone["meta"]["model"] == "openai/window"


def one_too_long():
    """Only the batch of the document that is too long has no vectors."""
    documents = [*DOCUMENTS[:32], Document(content="word " * 9000)]
    embedded = embedder.run(documents=documents)["documents"]
    assert [bool(document.embedding) for document in embedded] == [True] * 32 + [False]


batches()
one_too_long()
print("ok", len(made))
