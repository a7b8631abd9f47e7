"""A stream ends well, or it fails loudly; and when the client goes away, so does the call upstream."""

import asyncio

import openai
import pytest

from conftest import HELLO, script

FAULTS = [
    {"reset": {"after_chunk": 3}},
    {"reset": {"at_byte": 2_000}},
    {"cut_at_byte": 2_000},
    {"end_after_chunk": 3},
    {"error_after_chunks": 3},
    {"end_after_chunk": 3, "encoding": "gzip"},
    {"reset": {"after_chunk": 3}, "split": 3},
]
# A reset may cost what was sent just before it: with a pause between them, chunks are there when it strikes.
TEN = {"text": "one two three four five six seven eight nine ten", "chunk_delay": "10ms"}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_stream_that_breaks_is_an_exception(client, fault):
    stream = client.chat.completions.create(model="assistant", messages=HELLO, stream=True, **script(**TEN, **fault))
    text = ""
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            assert chunk.choices[0].finish_reason is None
    assert TEN["text"].startswith(text) and text not in ("", TEN["text"])
    assert type(caught.value) is openai.APIError, "an error event, not a broken connection"
    # A provider's own error event keeps its words, and need not have a code.
    assert caught.value.message and (caught.value.code or "error_after_chunks" in fault)


@pytest.mark.parametrize("fault", FAULTS[:4], ids=str)
async def test_a_stream_that_breaks_is_an_exception_async(async_client, fault):
    stream = await async_client.chat.completions.create(
        model="assistant", messages=HELLO, stream=True, **script(**TEN, **fault)
    )
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass


@pytest.mark.parametrize("fault", FAULTS[:5], ids=str)
def test_a_broken_stream_has_no_done(http, fault):
    body = {"model": "assistant", "messages": HELLO, "stream": True, "mock": {**TEN, **fault}}
    text = http.post("/v1/chat/completions", json=body).text
    *_, last = text.strip().split("\n\n")
    assert last.startswith('data: {"error":')
    assert "[DONE]" not in text


def test_a_stream_that_falls_silent_is_an_exception(client):
    stream = client.chat.completions.create(
        model="impatient", messages=HELLO, stream=True, **script(**TEN, hang_after_chunks=2)
    )
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "upstream_timeout"


def test_a_finished_stream_without_done_is_not_a_clean_end_unseen(client):
    """The answer is all there; whether the missing `[DONE]` is made up for or is an error, no text is lost."""
    stream = client.chat.completions.create(
        model="assistant", messages=HELLO, stream=True, **script(**TEN, omit_done=True)
    )
    text = ""
    try:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        assert error.code
    assert text == TEN["text"]


def test_a_whole_answer_that_breaks_off_is_an_error(client):
    for fault in ({"cut_at_byte": 100}, {"reset": {"at_byte": 100}}, {"content_length": "long"}):
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="assistant", messages=HELLO, **script(**TEN, **fault))


def test_a_client_that_leaves_a_stream_ends_the_call_upstream(client, upstream):
    stream = client.chat.completions.create(
        model="assistant", messages=HELLO, stream=True, **script(chunks=100_000, chunk_delay="10ms")
    )
    for _ in range(3):
        next(stream)
    stream.close()
    upstream.wait_for("aborted")


def test_a_client_that_leaves_a_silent_stream_ends_the_call_upstream(client, upstream):
    stream = client.chat.completions.create(
        model="assistant", messages=HELLO, stream=True, **script(**TEN, hang_after_chunks=2)
    )
    next(stream)
    stream.close()
    upstream.wait_for("aborted")


async def test_a_cancelled_task_ends_the_call_upstream(async_client, upstream):
    for behaviour in ({"delay": "60s"}, {"chunks": 100_000, "chunk_delay": "10ms"}):
        upstream.clear()

        async def read():
            stream = await async_client.chat.completions.create(
                model="assistant", messages=HELLO, stream=True, **script(**behaviour)
            )
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(upstream.wait_for, "aborted")


async def test_a_cancelled_whole_call_ends_the_call_upstream(async_client, upstream):
    call = async_client.chat.completions.create(model="assistant", messages=HELLO, **script(hang=True))
    task = asyncio.create_task(call)
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(upstream.wait_for, "aborted")


def test_a_connection_serves_again_after_a_broken_stream(client):
    for _ in range(5):
        stream = client.chat.completions.create(
            model="assistant", messages=HELLO, stream=True, **script(**TEN, reset={"after_chunk": 1})
        )
        with pytest.raises(openai.APIError):
            list(stream)
        answer = client.chat.completions.create(model="assistant", messages=HELLO)
        assert answer.choices[0].message.content == "You said: Hello"
