"""Chat completions through the official SDK: whole, streamed, and byte for byte."""

import asyncio
import json

import openai
import pytest

from conftest import GATEWAY, HELLO, KEY, completion, script

FAMILY = "Grüße, 世界! 👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u2028 \U0001f9d1\U0001f3fd‍🚀 ٱلسَّلَامُ "


def text_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == 0)


def test_a_whole_answer(client, upstream):
    answer = client.chat.completions.create(model="assistant", messages=HELLO)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "You said: Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert upstream.only().body["model"] == "upstream-assistant"


async def test_a_whole_answer_async(async_client):
    answer = await async_client.chat.completions.create(model="assistant", messages=HELLO)
    assert answer.choices[0].message.content == "You said: Hello"


def test_a_streamed_answer(client, upstream):
    chunks = list(client.chat.completions.create(model="assistant", messages=HELLO, stream=True))
    assert text_of(chunks) == "You said: Hello"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert upstream.only().state == "complete"


async def test_a_streamed_answer_async(async_client):
    stream = await async_client.chat.completions.create(model="assistant", messages=HELLO, stream=True)
    assert text_of([chunk async for chunk in stream]) == "You said: Hello"


def test_the_stream_helper_collects_the_answer(client):
    with client.chat.completions.stream(model="assistant", messages=HELLO) as stream:
        types = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in types and types[-1] == "content.done"
    assert final.choices[0].message.content == "You said: Hello"


def test_usage_is_hidden_from_a_client_that_did_not_ask(client, upstream):
    chunks = list(client.chat.completions.create(model="assistant", messages=HELLO, stream=True))
    assert upstream.only().body["stream_options"]["include_usage"] is True
    assert all(chunk.choices for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_usage_comes_to_a_client_that_asked(client):
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "cached_tokens": 5, "reasoning_tokens": 2}
    stream = client.chat.completions.create(
        model="assistant",
        messages=HELLO,
        stream=True,
        stream_options={"include_usage": True},
        **script(text="one two", usage=usage),
    )
    *others, last = list(stream)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (11, 7, 18)
    assert last.usage.prompt_tokens_details.cached_tokens == 5
    assert last.usage.completion_tokens_details.reasoning_tokens == 2
    assert all(chunk.usage is None for chunk in others)


def test_other_stream_options_stay_when_usage_is_added(client, upstream):
    options = {"include_usage": False, "include_obfuscation": False}
    chunks = list(client.chat.completions.create(model="assistant", messages=HELLO, stream=True, stream_options=options))
    assert upstream.only().body["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert all(chunk.choices for chunk in chunks)


@pytest.mark.parametrize("mode", ["every_chunk", "with_finish", "always", "never"])
def test_any_way_in_which_a_provider_reports_usage_is_understood(client, mode):
    chunks = list(
        client.chat.completions.create(
            model="assistant", messages=HELLO, stream=True, **script(text="a b c", usage_mode=mode)
        )
    )
    assert text_of(chunks) == "a b c"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_two_choices_arrive_whole_and_interleaved(client):
    whole = client.chat.completions.create(model="assistant", messages=HELLO, n=2)
    assert [choice.index for choice in whole.choices] == [0, 1]
    texts = {0: "", 1: ""}
    finished = set()
    for chunk in client.chat.completions.create(model="assistant", messages=HELLO, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                finished.add(choice.index)
    assert texts == {0: "You said: Hello", 1: "You said: Hello"}
    assert finished == {0, 1}


def test_parameters_arrive_as_they_were_sent(client, upstream):
    sent = {
        "stop": ["\n\n", "END"],
        "temperature": 0.1,
        "max_completion_tokens": 5,
        "seed": 7,
        "logit_bias": {"50256": -100},
        "user": "u-1",
        "metadata": {"team": "blue"},
        "service_tier": "flex",
        "reasoning_effort": "low",
    }
    client.chat.completions.create(model="assistant", messages=HELLO, **sent)
    body = upstream.only().body
    assert {name: body[name] for name in sent} == sent


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_finish_reasons_pass(client, reason):
    asked = {"model": "assistant", "messages": HELLO, **script(text="a b", finish_reason=reason)}
    assert client.chat.completions.create(**asked).choices[0].finish_reason == reason
    chunks = list(client.chat.completions.create(stream=True, **asked))
    assert chunks[-1].choices[0].finish_reason == reason


def test_log_probabilities_pass(client):
    entry = {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []}
    body = completion(logprobs={"content": [entry], "refusal": None})
    answer = client.chat.completions.create(
        model="assistant", messages=HELLO, logprobs=True, top_logprobs=2, **script(body=body)
    )
    (token,) = answer.choices[0].logprobs.content
    assert (token.token, token.logprob, token.bytes) == ("Hi", -0.25, [72, 105])


def test_log_probabilities_pass_in_a_stream(client):
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "Hi"},
                "logprobs": {"content": [{"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": []}]},
                "finish_reason": "stop",
            }
        ],
    }
    body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
    (got,) = client.chat.completions.create(
        model="assistant", messages=HELLO, stream=True, **script(body=body, content_type="text/event-stream")
    )
    assert got.choices[0].logprobs.content[0].logprob == -0.5


def test_reasoning_and_refusals_pass(client):
    asked = {"model": "assistant", "messages": HELLO}
    answer = client.chat.completions.create(**asked, **script(reasoning="Think hard.", text="Done."))
    assert answer.choices[0].message.reasoning_content == "Think hard."
    chunks = client.chat.completions.create(stream=True, **asked, **script(reasoning="Think hard.", text="Done."))
    thought = "".join(getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks)
    assert thought == "Think hard."
    answer = client.chat.completions.create(**asked, **script(refusal="I cannot."))
    assert (answer.choices[0].message.refusal, answer.choices[0].message.content) == ("I cannot.", None)
    chunks = client.chat.completions.create(stream=True, **asked, **script(refusal="I cannot."))
    assert "".join(chunk.choices[0].delta.refusal or "" for chunk in chunks) == "I cannot."


@pytest.mark.parametrize(
    "transport",
    [
        {},
        {"split": 1},
        {"split": 3, "line_ending": "crlf"},
        {"split_random": 42, "comments": True, "bom": True},
        {"line_ending": "cr", "coalesce": True},
        {"encoding": "gzip"},
        {"encoding": "zstd", "split": 7},
        {"preamble": 5},
    ],
    ids=str,
)
def test_a_stream_is_intact_however_it_travels(client, transport):
    behaviour = script(text=FAMILY * 5, chunks=40, **transport)
    chunks = list(client.chat.completions.create(model="assistant", messages=HELLO, stream=True, **behaviour))
    assert text_of(chunks) == FAMILY * 5
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("transport", [{}, {"split": 5}, {"encoding": "br"}, {"content_length": "absent"}], ids=str)
def test_a_whole_answer_is_intact_however_it_travels(client, transport):
    answer = client.chat.completions.create(model="assistant", messages=HELLO, **script(text=FAMILY, **transport))
    assert answer.choices[0].message.content == FAMILY


def test_a_frame_of_one_mebibyte(client):
    behaviour = script(frame_bytes=1 << 20, text=" end")
    chunks = client.chat.completions.create(model="assistant", messages=HELLO, stream=True, **behaviour)
    assert text_of(chunks) == "x" * (1 << 20) + " end"


def test_a_large_prompt_and_a_large_answer(client, upstream):
    prompt = FAMILY * 40_000
    messages = [{"role": "user", "content": prompt}]
    answer = client.chat.completions.create(
        model="assistant", messages=messages, **script(chunk_text="0123456789abcdef", chunks=1 << 17)
    )
    assert answer.choices[0].message.content == "0123456789abcdef" * (1 << 17)
    assert upstream.only().body["messages"] == messages


def test_images_pass(client, upstream):
    image = "data:image/png;base64," + "iVBORw0KGgo=" * 20_000
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": image}}]
    client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": content}])
    assert upstream.only().body["messages"][0]["content"] == content


def test_members_that_nobody_knows_reach_the_provider(client, upstream):
    strange = {"x_strange": {"deep": [1, 2.5, None, True, {"ünïcödé": "\u0000\\\"/"}]}, "min_p": 0.05, "top_k": 40}
    client.chat.completions.create(model="assistant", messages=HELLO, extra_body=strange)
    body = upstream.only().body
    assert {name: body[name] for name in strange} == strange


def test_the_body_reaches_the_provider_byte_for_byte_but_for_the_model(http, upstream):
    body = (
        '{ "seed": 1.0e+3,\t"messages":[{"role":"user","content":"\\u0041\\ud83d\\ude00/\\/"}],\n'
        ' "model" : "assistant" , "zeta":{"b":1,"a":[1.10,-0,0.1e-7]}, "big": 123456789012345678901234567890 }'
    )
    http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"}).raise_for_status()
    assert upstream.only().text == body.replace('"assistant"', '"upstream-assistant"')


def test_a_whole_answer_reaches_the_client_byte_for_byte(client):
    odd = '{ "choices" : [ {"index":0, "finish_reason":"stop","message":{"role":"assistant","content":"\\u0041\\/"}} ],'
    odd += ' "strange": {"z": 1.10, "a": 1e2}, "id":"x", "created": 1, "model":"m", "object":"chat.completion" }\n'
    raw = client.chat.completions.with_raw_response.create(model="assistant", messages=HELLO, **script(body=odd))
    assert raw.http_response.content == odd.encode()


def test_the_base_url_works_with_and_without_v1():
    for base_url in (GATEWAY, f"{GATEWAY}/", f"{GATEWAY}/v1", f"{GATEWAY}/v1/"):
        with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
            answer = client.chat.completions.create(model="assistant", messages=HELLO)
            assert answer.choices[0].message.content == "You said: Hello", base_url
            assert client.models.retrieve("assistant").id == "assistant", base_url


@pytest.mark.parametrize("header", ["api-key", "x-api-key"])
def test_keys_in_other_headers(http, upstream, header):
    del http.headers["authorization"]
    body = {"model": "assistant", "messages": HELLO}
    assert http.post("/v1/chat/completions", json=body).status_code == 401
    assert http.post("/v1/chat/completions", json=body, headers={header: KEY}).status_code == 200
    assert KEY not in json.dumps(upstream.only().raw)


def test_the_sdk_with_azures_header(client):
    headers = {"Authorization": openai.Omit(), "api-key": KEY}
    assert client.chat.completions.create(model="assistant", messages=HELLO, extra_headers=headers).choices


def test_the_keys_of_clients_and_providers_never_meet(client, upstream):
    raw = client.chat.completions.with_raw_response.create(model="assistant", messages=HELLO)
    seen = upstream.only()
    assert seen.raw["api_key"] == "upstream-key-of-mock"
    assert KEY not in json.dumps(seen.raw)
    assert "upstream-key" not in str(dict(raw.headers)) + raw.text


def test_response_headers(client):
    raw = client.chat.completions.with_raw_response.create(
        model="assistant",
        messages=HELLO,
        **script(headers={"x-ratelimit-remaining-tokens": "123", "x-request-id": "theirs"}),
    )
    assert raw.headers["x-request-id"] not in ("", "theirs")
    assert raw.headers["x-switchboard-target"] == "mock/upstream-assistant"
    assert raw.headers["x-switchboard-attempts"] == "1"
    assert 0 <= float(raw.headers["x-switchboard-overhead-ms"]) < 10_000
    assert raw.headers["x-ratelimit-remaining-tokens"] == "123"
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    again = client.chat.completions.with_raw_response.create(model="assistant", messages=HELLO)
    assert again.headers["x-request-id"] != raw.headers["x-request-id"]


def test_response_headers_of_a_stream(client):
    with client.chat.completions.with_streaming_response.create(
        model="assistant", messages=HELLO, stream=True
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-switchboard-target"] == "mock/upstream-assistant"
        assert response.headers["x-request-id"]
        lines = [line for line in response.iter_lines() if line.startswith("data:")]
    assert lines[-1] == "data: [DONE]"


def test_an_alias_and_a_pattern(client, upstream):
    client.chat.completions.create(model="gpt-4", messages=HELLO)
    client.chat.completions.create(model="mock/any/name", messages=HELLO)
    assert [request.body["model"] for request in upstream.requests()] == ["upstream-assistant", "any/name"]


async def test_fifty_streams_at_once_do_not_mix(async_client):
    async def one(number):
        text = f"stream {number} says " + " ".join(str(number) for _ in range(30))
        stream = await async_client.chat.completions.create(
            model="assistant", messages=HELLO, stream=True, **script(text=text, chunk_delay="2ms")
        )
        assert text_of([chunk async for chunk in stream]) == text

    await asyncio.gather(*(one(number) for number in range(50)))


def test_stream_options_that_say_nothing(http, upstream):
    for options in (None, {}):
        upstream.clear()
        body = {"model": "assistant", "messages": HELLO, "stream": True, "stream_options": options}
        text = http.post("/v1/chat/completions", json=body).raise_for_status().text
        assert "usage" not in text and text.endswith("data: [DONE]\n\n")
        assert upstream.only().body["stream_options"] == {"include_usage": True}
