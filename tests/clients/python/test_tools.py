"""Tool calls and structured outputs through the official SDK."""

import json
from typing import Literal

import pytest
from pydantic import BaseModel

from conftest import HELLO, script

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
PARALLEL = [
    {"name": "get_weather", "arguments": {"city": "Zürich 🏔️"}, "id": "call_a"},
    {"name": "get_time", "arguments": {"zone": "Europe/Zurich", "deep": {"list": [1, 2, {"x": "\"quoted\""}]}}},
    {"name": "no_arguments", "arguments": {}},
]


class Step(BaseModel):
    thought: str
    certainty: float


class Plan(BaseModel):
    title: str
    mood: Literal["calm", "busy"]
    steps: list[Step]


def joined(chunks):
    """The tool calls of a stream, put together as a client does: by index."""
    calls = {}
    for chunk in chunks:
        for part in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
            call["id"] += part.id or ""
            call["name"] += part.function.name or ""
            call["arguments"] += part.function.arguments or ""
    return [calls[index] for index in sorted(calls)]


def test_a_tool_call_and_its_result(client, upstream):
    asked = {"model": "assistant", "tools": [WEATHER]}
    answer = client.chat.completions.create(messages=HELLO, **asked, **script(tool_calls=PARALLEL[:1]))
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content, call.id) == ("tool_calls", None, "call_a")
    assert json.loads(call.function.arguments) == {"city": "Zürich 🏔️"}
    upstream.clear()
    history = [
        *HELLO,
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 21}'},
    ]
    answer = client.chat.completions.create(messages=history, **asked)
    assert answer.choices[0].message.content
    body = upstream.only().body
    assert body["tools"] == [WEATHER]
    assert body["messages"] == history


@pytest.mark.parametrize("transport", [{}, {"split": 2}, {"chunk_delay": "2ms"}], ids=str)
def test_parallel_tool_calls_in_a_stream(client, transport):
    stream = client.chat.completions.create(
        model="assistant", messages=HELLO, stream=True, tools=[WEATHER], **script(tool_calls=PARALLEL, **transport)
    )
    chunks = list(stream)
    calls = joined(chunks)
    assert [call["name"] for call in calls] == [call["name"] for call in PARALLEL]
    assert [json.loads(call["arguments"]) for call in calls] == [call["arguments"] for call in PARALLEL]
    assert len({call["id"] for call in calls}) == 3
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_stream_helper_parses_tool_calls(client):
    with client.chat.completions.stream(
        model="assistant", messages=HELLO, tools=[WEATHER], **script(tool_calls=PARALLEL[:1])
    ) as stream:
        events = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in events
    assert message.tool_calls[0].function.parsed_arguments == {"city": "Zürich 🏔️"}


def test_arguments_that_are_not_json_pass_as_they_are(client):
    broken = [{"name": "f", "arguments": '{"city": "Par'}]
    answer = client.chat.completions.create(model="assistant", messages=HELLO, **script(tool_calls=broken))
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city": "Par'


def test_a_tool_the_client_insists_on(client, upstream):
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = client.chat.completions.create(
        model="assistant", messages=HELLO, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False
    )
    assert answer.choices[0].message.tool_calls[0].function.name == "get_weather"
    body = upstream.only().body
    assert (body["tool_choice"], body["parallel_tool_calls"]) == (choice, False)


def test_a_structured_output_is_parsed(client, upstream):
    answer = client.chat.completions.parse(model="assistant", messages=HELLO, response_format=Plan)
    assert isinstance(answer.choices[0].message.parsed, Plan)
    sent = upstream.only().body["response_format"]
    assert (sent["type"], sent["json_schema"]["name"], sent["json_schema"]["strict"]) == ("json_schema", "Plan", True)


async def test_a_structured_output_is_parsed_async(async_client):
    answer = await async_client.chat.completions.parse(model="assistant", messages=HELLO, response_format=Plan)
    assert isinstance(answer.choices[0].message.parsed, Plan)


def test_a_structured_output_is_parsed_from_a_stream(client):
    with client.chat.completions.stream(model="assistant", messages=HELLO, response_format=Plan) as stream:
        stream.until_done()
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Plan)


def test_json_mode(client):
    answer = client.chat.completions.create(
        model="assistant", messages=HELLO, response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content) == {"answer": "You said: Hello"}
