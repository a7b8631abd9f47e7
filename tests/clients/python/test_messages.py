"""Anthropic's format through its official SDK: whole, streamed, thinking, tools and counts of tokens."""

import anthropic
import pytest
from pydantic import BaseModel

from conftest import HELLO

FAMILY = "Grüße, 世界! 👩‍👩‍👧‍👦 🏳️‍🌈 "
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PARALLEL = [
    {"name": "get_weather", "arguments": {"city": "Zürich 🏔️"}},
    {"name": "get_time", "arguments": {"zone": "Europe/Zurich", "deep": {"list": [1, 2, {"x": "\"quoted\""}]}}},
    {"name": "no_arguments", "arguments": {}},
]
USAGE = {"prompt_tokens": 100, "cached_tokens": 60, "completion_tokens": 40, "reasoning_tokens": 25}
TRANSPORTS = [{}, {"split": 3}, {"split_random": 7}, {"chunk_delay": "2ms"}, {"encoding": "gzip"}, {"comments": True}]


class Plan(BaseModel):
    title: str
    steps: list[str]


def blocks(message):
    return [block.type for block in message.content]


def counts(usage):
    return (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens)


def test_a_whole_message(target, claude):
    message = claude.messages.create(**target.asked())
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert [block.text for block in message.content] == ["You said: Hello"]
    assert message.id and message.usage.input_tokens > 0 and message.usage.output_tokens > 0
    assert message._request_id


async def test_a_whole_message_async(target, async_claude):
    message = await async_claude.messages.create(**target.asked(), **target.script(text=FAMILY))
    assert message.content[0].text == FAMILY


def test_a_key_as_bearer(target, upstream):
    with target.client(api_key=None, auth_token=target.key) as client:
        assert client.messages.create(**target.asked()).content[0].text == "You said: Hello"


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
def test_a_streamed_message(target, claude, transport):
    events = list(claude.messages.create(stream=True, **target.asked(), **target.script(text=FAMILY, usage=USAGE, **transport)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "".join(event.delta.text for event in events if event.type == "content_block_delta") == FAMILY
    assert events[0].message.stop_reason is None and events[0].message.content == []
    assert (events[-2].delta.stop_reason, events[-2].usage.output_tokens) == ("end_turn", 40)
    assert counts(events[-2].usage) == (40, 60, 40)
    begun = events[0].message.usage
    if target.is_translated:
        assert begun.input_tokens > 0, "an estimate: OpenAI's streams tell it at their end"
    else:
        assert (begun.input_tokens, begun.cache_read_input_tokens) == (40, 60)


def test_the_stream_helper_puts_the_message_together(target, claude):
    with claude.messages.stream(**target.asked(), **target.script(text=FAMILY, usage=USAGE, answer_id="msg_1")) as stream:
        assert "".join(stream.text_stream) == FAMILY
        message = stream.get_final_message()
    assert (message.content[0].text, message.stop_reason, counts(message.usage)) == (FAMILY, "end_turn", (40, 60, 40))
    whole = claude.messages.create(**target.asked(), **target.script(text=FAMILY, usage=USAGE, answer_id="msg_1"))
    assert (whole.content[0].text, whole.stop_reason, counts(whole.usage)) == (FAMILY, "end_turn", (40, 60, 40))


async def test_the_stream_helper_async(target, async_claude):
    async with async_claude.messages.stream(**target.asked(), **target.script(text=FAMILY)) as stream:
        assert await stream.get_final_text() == FAMILY


def test_thinking_is_signed_and_comes_back_unchanged(target, claude, upstream):
    if target.is_translated:
        pytest.skip("nobody signs it there; test_formats.py tells what becomes of it")
    answer = target.script(reasoning="Let me think.", signature="c2lnbmVk", redacted_reasoning="ZGF0YQ==", text="So.")
    with claude.messages.stream(**target.asked(), **answer) as stream:
        events = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert "thinking" in events and "signature" in events
    whole = claude.messages.create(**target.asked(), **answer)
    for message in (streamed, whole):
        assert blocks(message) == ["redacted_thinking", "thinking", "text"]
        assert message.content[0].data == "ZGF0YQ=="
        assert (message.content[1].thinking, message.content[1].signature) == ("Let me think.", "c2lnbmVk")
    upstream.clear()
    history = [*HELLO, {"role": "assistant", "content": whole.content}, {"role": "user", "content": "Go on"}]
    thinking = {"type": "enabled", "budget_tokens": 1_024}
    answer = claude.messages.create(**target.asked(messages=history, max_tokens=2_000, thinking=thinking))
    assert answer.content[0].text == "You said: Go on"
    if target.is_mock:
        assert upstream.only().body["messages"][1]["content"][1]["signature"] == "c2lnbmVk"


def test_a_tool_call_and_its_result(target, claude):
    message = claude.messages.create(**target.asked(tools=[WEATHER]), **target.script(tool_calls=PARALLEL[:1]))
    (call,) = message.content
    assert (message.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "get_weather")
    assert call.input == {"city": "Zürich 🏔️"}
    target.upstream.say()
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees"}
    history = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    answer = claude.messages.create(**target.asked(messages=history, tools=[WEATHER]))
    assert answer.content[0].text


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
def test_parallel_tool_calls_in_a_stream(target, claude, transport):
    answer = target.script(text="I look.", tool_calls=PARALLEL, **transport)
    with claude.messages.stream(**target.asked(tools=[WEATHER]), **answer) as stream:
        message = stream.get_final_message()
    assert blocks(message) == ["text", "tool_use", "tool_use", "tool_use"]
    calls = message.content[1:]
    assert [call.name for call in calls] == [call["name"] for call in PARALLEL]
    assert [call.input for call in calls] == [call["arguments"] for call in PARALLEL]
    assert len({call.id for call in calls}) == 3 and message.stop_reason == "tool_use"


def test_a_tool_the_client_insists_on(target, claude):
    choice = {"type": "tool", "name": "get_weather"}
    message = claude.messages.create(**target.asked(tools=[WEATHER], tool_choice=choice))
    assert (message.content[0].name, list(message.content[0].input)) == ("get_weather", ["city"])


def test_a_structured_output_is_parsed(target, claude):
    message = claude.messages.parse(**target.asked(), output_format=Plan)
    assert isinstance(message.parsed_output, Plan)


def test_a_refusal(target, claude):
    message = claude.messages.create(**target.asked(), **target.script(refusal="I cannot help with that."))
    assert message.stop_reason == "refusal"
    with claude.messages.stream(**target.asked(), **target.script(refusal="I cannot help with that.")) as stream:
        assert stream.get_final_message().stop_reason == "refusal"


def test_an_answer_that_is_too_long(target, claude):
    message = claude.messages.create(**target.asked(), **target.script(finish_reason="length"))
    assert message.stop_reason == "max_tokens"


def test_tokens_are_counted(target, claude):
    asked = {"model": target.model, "messages": HELLO}
    short = claude.messages.count_tokens(**asked).input_tokens
    long = claude.messages.count_tokens(**asked, system="Be brief. " * 50, tools=[WEATHER]).input_tokens
    assert 0 < short < long


def test_the_beta_surface(target, claude, upstream):
    message = claude.beta.messages.create(**target.asked(), betas=["context-management-2025-06-27"])
    assert message.content[0].text == "You said: Hello"
    if target.is_mock:
        seen = upstream.only()
        assert seen.headers["anthropic-beta"] == "context-management-2025-06-27"
        assert seen.headers["anthropic-version"] == "2026-10-21"


def test_limits_are_told(target, claude):
    if target.is_translated:
        pytest.skip("the provider's limits are told in its own headers")
    headers = claude.messages.with_raw_response.create(**target.asked()).headers
    for what in ("requests", "tokens", "input-tokens", "output-tokens"):
        limit = int(headers[f"anthropic-ratelimit-{what}-limit"])
        assert 0 <= int(headers[f"anthropic-ratelimit-{what}-remaining"]) <= limit
        assert headers[f"anthropic-ratelimit-{what}-reset"].endswith("Z")


def test_models_are_listed(target, claude):
    if not target.is_mock:
        pytest.skip("the gateway lists its models in OpenAI's form")
    assert "mock" in [model.id for model in claude.models.list()]
    assert isinstance(claude.models.retrieve("a/b"), anthropic.types.ModelInfo)


def test_arguments_that_are_not_json_pass_as_they_are(target, claude):
    broken = [{"name": "f", "arguments": '{"city": "Par'}]
    stream = claude.messages.create(stream=True, **target.asked(), **target.script(tool_calls=broken))
    parts = [event.delta.partial_json for event in stream if event.type == "content_block_delta"]
    assert "".join(parts) == '{"city": "Par'
