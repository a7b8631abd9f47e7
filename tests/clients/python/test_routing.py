"""Retries and fallbacks are invisible to the client, but for a header that tells of them."""

import openai
import pytest

from conftest import HELLO, script

SECOND = "spare/upstream-second"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "model", ["second-target", "dead-then-spare", "reset-then-spare", "empty-then-spare", "html-then-spare"]
)
def test_the_second_target_answers_when_the_first_fails(client, model, stream):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, stream=stream)
    answer = raw.parse()
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        text = answer.choices[0].message.content
    assert text == "You said: Hello"
    assert raw.headers["x-switchboard-target"] == SECOND
    assert int(raw.headers["x-switchboard-attempts"]) >= 2


def test_an_error_as_first_event_moves_on_to_the_second_target(client):
    raw = client.chat.completions.with_raw_response.create(model="error-first-then-spare", messages=HELLO, stream=True)
    chunks = list(raw.parse())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You said: Hello"
    assert len({chunk.id for chunk in chunks}) == 1, "nothing of the first target's answer"
    assert raw.headers["x-switchboard-target"] == SECOND


@pytest.mark.parametrize("model", ["long-prompts", "out-of-money", "key-refused"])
def test_a_failure_with_a_fallback_model_of_its_own_goes_there(client, model):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO)
    assert raw.parse().choices[0].message.content == "You said: Hello"
    assert raw.headers["x-switchboard-target"] == SECOND


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_failure_that_passes_is_retried_unseen(client, upstream, stream):
    upstream.enqueue({"status": 500}, {"reset": "before_head"})
    raw = client.chat.completions.with_raw_response.create(model="assistant", messages=HELLO, stream=stream)
    answer = list(raw.parse()) if stream else raw.parse()
    assert answer
    assert raw.headers["x-switchboard-attempts"] == "3"
    assert len({request.text for request in upstream.requests()}) == 1, "each attempt starts from the same request"


def test_a_short_retry_after_is_waited_for(client, upstream):
    upstream.enqueue({"status": 429, "retry_after_ms": 100})
    raw = client.chat.completions.with_raw_response.create(model="limited/short", messages=HELLO)
    assert raw.parse().choices[0].message.content == "You said: Hello"
    first, second = upstream.requests()
    assert second.raw["at_ms"] - first.raw["at_ms"] >= 95


def test_a_bad_request_is_not_tried_elsewhere(client, upstream):
    upstream.enqueue({"status": 400})
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="spare-model", messages=HELLO)
    assert len(upstream.requests()) == 1


def test_a_slow_first_output_moves_on(client, upstream):
    upstream.enqueue({"hang": True})
    chunks = client.chat.completions.create(model="impatient", messages=HELLO, stream=True, **script(text="quick"))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "quick"
    assert len(upstream.requests()) == 2
