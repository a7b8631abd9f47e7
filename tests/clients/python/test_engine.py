"""A real engine as upstream: llama.cpp's server with a tiny model of random weights (`../engine/`).

It speaks nonsense, but it speaks it over its own HTTP, tokenizer and sampler rather than ours.
"""

import os
import time

import openai
import pytest

from conftest import HELLO

pytestmark = pytest.mark.skipif(not os.environ.get("CLIENTS_ENGINE_RUNS"), reason="no engine was started")

MODEL = "engine/tiny"
ASKED = {"model": MODEL, "max_tokens": 12, "temperature": 0, "seed": 1}


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_chat(client):
    raw = client.chat.completions.with_raw_response.create(messages=HELLO, **ASKED)
    answer = raw.parse()
    assert len(answer.choices[0].message.content.split()) >= 6
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert raw.headers["x-switchboard-target"] == "engine/tiny"


def test_a_streamed_chat_says_the_same(client):
    whole = client.chat.completions.create(messages=HELLO, **ASKED).choices[0].message.content
    chunks = list(client.chat.completions.create(messages=HELLO, stream=True, **ASKED))
    assert len(chunks) > 6
    assert text_of(chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_chat_async(async_client):
    stream = await async_client.chat.completions.create(messages=HELLO, stream=True, **ASKED)
    assert text_of([chunk async for chunk in stream])


def test_completions(client):
    asked = {"prompt": "the cat", **ASKED}
    whole = client.completions.create(**asked)
    assert whole.choices[0].text and whole.usage.completion_tokens == 12
    chunks = list(client.completions.create(stream=True, **asked))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_embeddings(client):
    answer = client.embeddings.create(model="engine/tiny-embedder", input=["the cat", "the river"], encoding_format="float")
    assert [len(item.embedding) for item in answer.data] == [32, 32]
    assert answer.data[0].embedding != answer.data[1].embedding
    assert answer.usage.total_tokens > 0


def test_usage_is_counted(client, http):
    """The gateway's own count of output tokens grows by what the engine reports."""

    def counted():
        lines = http.get("/metrics").text.splitlines()
        counts = [line for line in lines if line.startswith("switchboard_tokens_total{") and 'target="engine/*"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in counts)

    before = counted()
    usage = client.chat.completions.create(messages=HELLO, **ASKED).usage
    assert counted() - before == usage.total_tokens


def test_an_error_of_the_engine_keeps_its_words(client):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 60_000}])
    assert "context" in caught.value.message.lower()


def test_a_client_that_leaves_frees_the_engine(client):
    long = {**ASKED, "max_tokens": 3_000}
    started = time.monotonic()
    assert len(list(client.chat.completions.create(messages=HELLO, stream=True, **long))) > 1_000
    in_full = time.monotonic() - started
    stream = client.chat.completions.create(messages=HELLO, stream=True, **long)
    next(stream)
    stream.close()
    # The engine serves one call after the other: this one waits for as long as the abandoned one runs.
    started = time.monotonic()
    client.chat.completions.create(messages=HELLO, **ASKED)
    assert time.monotonic() - started < in_full / 2
