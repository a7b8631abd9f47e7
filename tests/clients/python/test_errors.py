"""Every failure becomes the SDK's own exception, with its code, and the SDK retries exactly when it should."""

import time

import openai
import pytest

from conftest import GATEWAY, HELLO, KEY, script


def client_with(key=KEY, **options):
    return openai.OpenAI(**{"base_url": f"{GATEWAY}/v1", "api_key": key, "max_retries": 0, **options})


def caught_from(client, model="assistant", **more):
    with pytest.raises(openai.OpenAIError) as caught:
        client.chat.completions.create(model=model, messages=HELLO, **more)
    return caught.value


@pytest.mark.parametrize("key", ["sk-wrong-wrong-wrong", "sk-clients-disabled", "sk-clients-expired", "x"])
def test_a_key_that_is_not_accepted(key, upstream):
    error = caught_from(client_with(key))
    assert isinstance(error, openai.AuthenticationError)
    assert error.status_code == 401 and error.code
    assert error.request_id and key not in str(error)[20:] or len(key) < 3
    assert upstream.requests() == []


def test_a_model_the_key_may_not_use(upstream):
    error = caught_from(client_with("sk-clients-assistant-only"), "embedder")
    assert isinstance(error, (openai.PermissionDeniedError, openai.NotFoundError))
    assert error.param == "model" and error.code
    assert upstream.requests() == []


def test_an_unknown_model(client, upstream):
    error = caught_from(client, "no-such-model")
    assert isinstance(error, openai.NotFoundError)
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")
    assert "no-such-model" in error.message
    assert upstream.requests() == []


def test_a_path_that_is_not_there(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.fine_tuning.jobs.list()
    assert caught.value.code == "unknown_path"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"messages": []}', "model"),
        ('{"model": 7, "messages": []}', "model"),
        ('{"model": "", "messages": []}', "model"),
        ('{"model": "assistant", "model": "embedder", "messages": []}', "model"),
        ('{"model": "assistant", "messages": [], "stream": "yes"}', "stream"),
        ('{"model": "assistant", "messages": [}', None),
        ('["model"]', None),
        ("", None),
        ('{"model": "assistant", "messages": ["\udcff"]}', None),
    ],
)
def test_a_request_that_makes_no_sense(http, upstream, body, param):
    content = body.encode("utf-8", "surrogateescape")
    response = http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["code"] and error["message"] and error["param"] == param
    assert response.headers["x-should-retry"] == "false"
    assert upstream.requests() == []


def test_a_providers_bad_request_keeps_its_words(client, upstream):
    behaviour = script(status=400, error_code="invalid_temperature", message="Temperature must be below 2.")
    error = caught_from(client, **behaviour)
    assert isinstance(error, openai.BadRequestError)
    assert (error.code, error.message.count("Temperature must be below 2.")) == ("invalid_temperature", 1)
    assert len(upstream.requests()) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_providers_status_becomes_the_class_of_the_exception(client, status, kind, stream):
    error = caught_from(client, stream=stream, **script(status=status))
    assert type(error) is kind
    assert error.status_code == status


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_the_provider_refuses_can_be_told_from_a_key_the_gateway_refuses(client, status):
    error = caught_from(client, f"refused/model-{status}", **script(status=status))
    assert isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError))
    assert error.response.headers["x-switchboard-target"] == f"refused/model-{status}"
    assert error.response.headers["x-should-retry"] == "false"
    assert "x-switchboard-target" not in caught_from(client_with("sk-wrong-wrong-wrong")).response.headers


def test_a_rate_limit_says_when_to_come_back(client):
    error = caught_from(client, "limited/a", **script(status=429, retry_after=7))
    assert isinstance(error, openai.RateLimitError)
    assert error.code == "rate_limit_exceeded"
    assert error.response.headers["retry-after"] == "7"


def test_a_limited_target_rests_and_the_gateway_says_for_how_long(client, upstream):
    caught_from(client, "limited/b", **script(status=429, retry_after=30))
    error = caught_from(client, "limited/b")
    assert isinstance(error, (openai.InternalServerError, openai.RateLimitError))
    assert 1 <= int(error.response.headers["retry-after"]) <= 30
    assert len(upstream.requests()) <= 2


def test_the_sdk_retries_what_may_pass(upstream):
    upstream.enqueue(*[{"status": 503}] * 8)
    with client_with(max_retries=4) as client:
        answer = client.chat.completions.create(model="assistant", messages=HELLO)
    assert answer.choices[0].message.content == "You said: Hello"
    # At most four attempts of the gateway for each call of the client.
    assert len(upstream.requests()) == 9


def test_the_sdk_does_not_retry_an_exhausted_quota(upstream):
    with client_with(max_retries=5) as client:
        error = caught_from(client, "limited/mock-quota")
    assert isinstance(error, openai.RateLimitError)
    assert error.code == "insufficient_quota"
    assert error.response.headers["x-should-retry"] == "false"
    assert len(upstream.requests()) == 1


def test_the_sdk_does_not_retry_what_is_permanent(upstream):
    with client_with(max_retries=5) as client:
        error = caught_from(client, **script(status=422))
        assert error.response.headers["x-should-retry"] == "false"
    assert len(upstream.requests()) == 1


def test_a_prompt_that_is_too_long(client, upstream):
    error = caught_from(client, "mock/mock-context-length")
    assert isinstance(error, openai.BadRequestError)
    assert error.code == "context_length_exceeded"
    assert len(upstream.requests()) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "fault",
    [
        {"reset": "before_head"},
        {"reset": "after_head"},
        {"empty": True},
        {"empty_body": True},
        {"html": True},
        {"invalid_json": True},
        {"error_in_200": True},
    ],
    ids=str,
)
def test_a_provider_that_fails_before_any_output_is_a_bad_gateway(client, fault, stream):
    error = caught_from(client, stream=stream, **script(**fault))
    assert isinstance(error, openai.InternalServerError)
    assert error.status_code in (500, 502) and error.code and error.request_id


def test_a_stream_that_begins_with_an_error_is_a_status(client):
    error = caught_from(client, stream=True, **script(error_first=True))
    assert isinstance(error, openai.InternalServerError)


def test_a_provider_that_cannot_be_reached(client):
    error = caught_from(client, "unreachable")
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (502, "upstream_unreachable")
    assert "127.0.0.1" not in str(error.body)


def test_the_clients_own_deadline(client, upstream):
    started = time.monotonic()
    error = caught_from(client.with_options(timeout=0.3), **script(delay="20s"))
    assert isinstance(error, openai.APITimeoutError)
    assert time.monotonic() - started < 5
    upstream.wait_for("aborted")


@pytest.mark.parametrize(("model", "stream"), [("hurried", False), ("impatient", True)])
def test_the_gateways_deadline(client, model, stream):
    started = time.monotonic()
    error = caught_from(client, model, stream=stream, **script(hang=True))
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (504, "upstream_timeout")
    assert time.monotonic() - started < 10


async def test_errors_async(async_client):
    with pytest.raises(openai.NotFoundError):
        await async_client.chat.completions.create(model="no-such-model", messages=HELLO)
    with pytest.raises(openai.RateLimitError):
        await async_client.chat.completions.create(
            model="limited/c", messages=HELLO, **script(status=429, retry_after=2)
        )
