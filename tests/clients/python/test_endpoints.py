"""Embeddings, legacy completions and models through the official SDK."""

import base64
import struct

import openai
import pytest

from conftest import GATEWAY, script


def test_embeddings_as_the_sdk_asks_for_them(client, upstream):
    answer = client.embeddings.create(model="embedder", input=["one", "two", "one"])
    assert upstream.only().body["encoding_format"] == "base64"
    first, second, third = (item.embedding for item in answer.data)
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert len(first) == 8 and first == third != second
    assert answer.usage.total_tokens == answer.usage.prompt_tokens > 0


def test_floats_and_base64_say_the_same(client):
    floats = client.embeddings.create(model="embedder", input="text", encoding_format="float")
    coded = client.embeddings.create(model="embedder", input="text", encoding_format="base64")
    values = floats.data[0].embedding
    (raw,) = [item.embedding for item in coded.data]
    decoded = raw if isinstance(raw, list) else struct.unpack(f"<{len(values)}f", base64.b64decode(raw))
    assert list(decoded) == pytest.approx(values)


async def test_embeddings_async(async_client):
    answer = await async_client.embeddings.create(model="embedder", input="text", dimensions=64)
    assert len(answer.data[0].embedding) == 64


def test_token_arrays_and_large_answers(client, upstream):
    answer = client.embeddings.create(model="embedder", input=[[1, 2, 3], [4]], dimensions=3, user="u")
    assert len(answer.data) == 2
    assert upstream.only().body["input"] == [[1, 2, 3], [4]]
    # About 33 MB of Base64: more than the gateway holds back before it answers.
    answer = client.embeddings.create(
        model="embedder", input="text", dimensions=3072, **script(embedding_count=2000)
    )
    assert len(answer.data) == 2000
    assert all(len(item.embedding) == 3072 for item in answer.data)


def test_a_large_answer_that_breaks_off_is_an_error(client):
    with pytest.raises(openai.APIError):
        client.embeddings.create(
            model="embedder",
            input="text",
            dimensions=3072,
            **script(embedding_count=2000, reset={"at_byte": 20_000_000}),
        )


def test_a_legacy_completion(client, upstream):
    answer = client.completions.create(model="assistant", prompt="Say this", max_tokens=7, echo=True, suffix="!")
    assert answer.object == "text_completion"
    assert answer.choices[0].text == "You said: Say this"
    assert answer.usage.total_tokens > 0
    request = upstream.only()
    assert request.raw["path"].endswith("/completions") and "chat" not in request.raw["path"]
    assert (request.body["max_tokens"], request.body["echo"], request.body["suffix"]) == (7, True, "!")


def test_a_streamed_legacy_completion(client):
    chunks = list(client.completions.create(model="assistant", prompt="Say this", stream=True, **script(split=3)))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "You said: Say this"
    assert chunks[-1].choices[0].finish_reason == "stop"
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.completions.create(model="assistant", prompt="Say this", **asked))
    assert chunks[-1].usage.total_tokens > 0


async def test_a_streamed_legacy_completion_async(async_client):
    stream = await async_client.completions.create(model="assistant", prompt="Say this", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "You said: Say this"


def test_models_are_listed(client):
    names = [model.id for model in client.models.list()]
    assert {"assistant", "team/assistant", "gpt-4", "mock/*"} <= set(names)
    assert len(names) == len(set(names))


def test_a_key_sees_only_its_models():
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key="sk-clients-assistant-only", max_retries=0) as client:
        names = [model.id for model in client.models.list()]
        assert "assistant" in names and not {"embedder", "team/assistant", "mock/*"} & set(names)
        assert client.models.retrieve("assistant").id == "assistant"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("embedder")


@pytest.mark.parametrize("name", ["assistant", "team/assistant", "mock/any", "mock/with/many/slashes", "gpt-4"])
def test_a_model_is_retrieved(client, name):
    model = client.models.retrieve(name)
    assert (model.id, model.object) == (name, "model")


def test_a_model_that_is_not_there(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody/knows")
    assert caught.value.code == "model_not_found"


async def test_models_async(async_client):
    assert "assistant" in [model.id async for model in async_client.models.list()]
