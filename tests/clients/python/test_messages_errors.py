"""Failures in Anthropic's format: each becomes the SDK's own exception, and a stream ends well or fails loudly."""

import anthropic
import httpx
import httpx2
import pytest

# A reset may cost what was sent just before it: with a pause between them, chunks are there when it strikes.
TEN = {"text": "one two three four five six seven eight nine ten", "chunk_delay": "10ms"}
STATUSES = [
    (400, anthropic.BadRequestError, "invalid_request_error"),
    (401, anthropic.AuthenticationError, "authentication_error"),
    (403, anthropic.PermissionDeniedError, "permission_error"),
    (404, anthropic.NotFoundError, "not_found_error"),
    (413, anthropic.RequestTooLargeError, "request_too_large"),
    (429, anthropic.RateLimitError, "rate_limit_error"),
    (500, anthropic.InternalServerError, "api_error"),
    (529, anthropic.InternalServerError, "overloaded_error"),
]
BREAKS = [{"reset": {"after_chunk": 3}}, {"cut_at_byte": 1_200}, {"reset": {"at_byte": 1_200}}]
# Without an event of the kind `message_stop`, and without an error of the connection: no SDK notices by itself.
UNFINISHED = [{"end_after_chunk": 3}, {"omit_done": True}]


@pytest.mark.parametrize(("status", "kind", "name"), STATUSES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_status_is_an_exception(target, claude, status, kind, name, stream):
    if not target.is_mock and status in (401, 403):
        pytest.skip("the gateway's key for the provider is not the client's affair")
    with pytest.raises(kind) as caught:
        claude.messages.create(stream=stream, **target.asked(), **target.script(status=status, message="as scripted"))
    error = caught.value
    assert (error.status_code, error.type, error.api_message) == (status, name, "as scripted")
    assert error.body["type"] == "error" and error.request_id
    assert type(error) is kind or status == 529 and isinstance(error, anthropic.OverloadedError)


def test_a_wrong_request(target, claude):
    if target.is_translated:
        pytest.skip("the mock's own words in this format")
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(**target.asked(max_tokens=0))
    assert "max_tokens" in caught.value.api_message
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.count_tokens(model=target.model, messages=[])


def test_a_request_without_a_version(target):
    """Real clients always send one; the mock insists on it as the API does."""
    if not target.is_mock:
        pytest.skip("the gateway puts it in")
    response = httpx.post(f"{target.base_url}/v1/messages", json=target.asked(), headers={"x-api-key": target.key})
    assert response.status_code == 400
    assert response.json()["error"] == {
        "type": "invalid_request_error",
        "message": "anthropic-version: header is required",
    }


def test_what_the_latest_version_does_not_take(target, claude):
    """The SDK names the version 2026-10-21, which has no sampling parameters; the one before still has them."""
    if target.is_translated:
        pytest.skip("the mock's own words in this format")
    with pytest.raises(anthropic.BadRequestError, match="temperature: Extra inputs are not permitted"):
        claude.messages.create(**target.asked(), extra_body={"temperature": 1.0})
    before = {"anthropic-version": "2023-06-01"}
    message = claude.messages.create(**target.asked(), extra_body={"temperature": 0.5}, extra_headers=before)
    assert message.content[0].text == "You said: Hello"


def test_a_prompt_that_is_too_long(target, claude):
    if not target.is_mock:
        pytest.skip("the model's name is the mock's")
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        claude.messages.create(**target.asked(model="mock-context-length"))


def test_the_sdk_retries_an_overload(target, upstream):
    upstream.enqueue({"status": 529}, {"status": 429, "retry_after_ms": 10})
    with target.client(max_retries=2) as client:
        assert client.messages.create(**target.asked()).content[0].text == "You said: Hello"


@pytest.mark.parametrize("fault", BREAKS, ids=str)
def test_a_stream_that_breaks_is_an_exception(target, claude, fault):
    stream = claude.messages.create(stream=True, **target.asked(), **target.script(**TEN, **fault))
    text = ""
    with pytest.raises((anthropic.APIError, httpx2.HTTPError)):
        for event in stream:
            assert event.type not in ("message_delta", "message_stop")
            text += event.delta.text if event.type == "content_block_delta" else ""
    assert TEN["text"].startswith(text) and text not in ("", TEN["text"])


@pytest.mark.parametrize("fault", UNFINISHED, ids=str)
def test_a_stream_that_is_not_finished_does_not_look_so(target, claude, fault):
    if target.is_translated and "omit_done" in fault:
        pytest.skip("complete with its finish reason: many servers send nothing after it")
    kinds = []
    try:
        for event in claude.messages.create(stream=True, **target.asked(), **target.script(**TEN, **fault)):
            kinds.append(event.type)
        assert target.is_mock, "the gateway says that the stream broke off"
    except anthropic.APIError:
        assert not target.is_mock
    assert "content_block_delta" in kinds and "message_stop" not in kinds


@pytest.mark.parametrize("helper", [False, True])
def test_an_error_in_a_stream_is_an_exception(target, claude, helper):
    fault = target.script(**TEN, error_after_chunks=3, error_type="overloaded_error", message="Overloaded")
    seen = 0
    with pytest.raises(anthropic.APIStatusError) as caught:
        if helper:
            with claude.messages.stream(**target.asked(), **fault) as stream:
                seen = len([text for text in stream.text_stream])
        else:
            for event in claude.messages.create(stream=True, **target.asked(), **fault):
                seen += event.type == "content_block_delta"
    assert (caught.value.type, caught.value.api_message) == ("overloaded_error", "Overloaded")
    assert helper or seen == 3


def test_an_error_as_the_first_event_is_an_exception(target, claude):
    with pytest.raises(anthropic.APIStatusError):
        list(claude.messages.create(stream=True, **target.asked(), **target.script(error_first=True)))


def test_a_reset_before_the_head_is_an_exception(target, claude):
    with pytest.raises(anthropic.APIError):
        claude.messages.create(**target.asked(), **target.script(reset="before_head"))


@pytest.mark.parametrize("fault", [{"cut_at_byte": 100}, {"reset": {"at_byte": 100}}, {"content_length": "long"}], ids=str)
def test_a_whole_message_that_breaks_off_is_an_exception(target, claude, fault):
    with pytest.raises((anthropic.APIError, httpx2.HTTPError)):
        claude.messages.create(**target.asked(), **target.script(**fault))


def test_leaving_a_stream_ends_the_call(target, claude, upstream):
    stream = claude.messages.create(stream=True, **target.asked(), **target.script(chunks=100_000, chunk_delay="10ms"))
    for event in stream:
        if event.type == "content_block_delta":
            break
    stream.close()
    upstream.wait_for("aborted")
