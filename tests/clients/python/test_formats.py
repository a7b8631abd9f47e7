"""Every client against providers of both formats, whole and streamed: each test is written once, in the terms of
`talk.py`. The mock's record of what it was sent is the second witness.
"""

import json

import anthropic
import httpx2
import pytest
from langchain_core.messages import HumanMessage

from conftest import GATEWAY, KEY
from talk import CLIENTS, PAPER, PIXEL, Ask, Image, Pdf, Result, User, tool, witness

PROVIDERS = {"openai": "openai/gpt-5.5", "anthropic": "claude/claude-opus-4-8"}
HELLO = [User(["Hello"])]
WEATHER = tool("weather", city={"type": "string"})
CLOCK = tool("clock", zone={"type": "string"})
CALLS = [
    {"id": "call_a", "name": "weather", "arguments": {"city": "Zürich 🏔️"}},
    {"id": "call_b", "name": "clock", "arguments": {"zone": 'a "quoted" \\ zone'}},
    {"id": "call_c", "name": "weather", "arguments": {"city": ""}},
]
FAMILY = "Grüße, 世界! 👩‍👩‍👧‍👦 🏳️‍🌈 "
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "steps": {"type": "array", "items": {"type": "string"}}},
    "required": ["title", "steps"],
    "additionalProperties": False,
}
# A reset may cost what was sent just before it: with a pause between them, chunks are there when it strikes.
TEN = {"text": "one two three four five six seven eight nine ten", "chunk_delay": "10ms"}

CALLING = {"text": "I look.", "tool_calls": CALLS, "chunk_delay": "10ms"}


@pytest.fixture(scope="module", params=CLIENTS)
def client(request):
    return CLIENTS[request.param]()


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request):
    return request.param


@pytest.fixture
def ask(client, provider, stream, upstream):
    """Asks the client's way, of this provider, whole or streamed; the mock answers as scripted."""

    def ask(turns=HELLO, script=None, model=PROVIDERS[provider], more=None, **asked):
        upstream.say(**(script or {}))
        return client.send(model, Ask(turns, **asked), stream, **(more or {}))

    return ask


@pytest.fixture
def seen(upstream):
    """What the last request said to the mock."""
    return lambda: witness(upstream.requests()[-1])


def test_a_text_and_the_instructions(ask, seen, upstream):
    answer = ask(system="Be brief.", script={"text": FAMILY})
    assert (answer.text, answer.calls, answer.stop) == (FAMILY, [], "end")
    assert (seen()["system"], seen()["turns"]) == (["Be brief."], [("user", [("text", "Hello")])])
    assert upstream.only().raw["outcome"]["state"] == "complete"


def test_what_was_consumed(ask, client, provider):
    usage = {"prompt_tokens": 100, "cached_tokens": 60, "completion_tokens": 40, "reasoning_tokens": 25}
    answer = ask(script={"reasoning": "Hm.", "text": "So.", "usage": usage})
    counts = answer.usage
    if client.name == "langchain-anthropic":
        counts = (*counts[:3], 25)  # It has no place for them.
    assert counts == (40, 60, 40, 25)


def test_a_loop_of_parallel_tools(ask, seen):
    """Two rounds: each sends back what the client's own library made of the answer before."""
    tools = [WEATHER, CLOCK]
    script = {"text": "I look.", "tool_calls": CALLS}
    turns = list(HELLO)
    for round in range(2):
        answer = ask(turns, tools=tools, script=script)
        assert (answer.text, answer.stop) == ("I look.", "tools")
        assert [call.read for call in answer.calls] == [(c["id"], c["name"], c["arguments"]) for c in CALLS]
        results = [Result(call.id, [f"result {round} of {call.id}"]) for call in answer.calls]
        turns += [answer, *results]
    answer = ask(turns, tools=tools, script={"text": "Done."})
    assert (answer.text, answer.stop) == ("Done.", "end")
    called = ("assistant", [("text", "I look."), *(("call", c["id"], c["name"], c["arguments"]) for c in CALLS)])

    def returned(round):
        results = [("result", c["id"], [("text", f"result {round} of {c['id']}")], False) for c in CALLS]
        return ("user", results)

    assert seen()["turns"] == [("user", [("text", "Hello")]), called, returned(0), called, returned(1)]
    assert seen()["tools"] == [(t["name"], t["schema"]) for t in tools]


@pytest.mark.parametrize("choice", ["auto", "any", "none", "clock"])
@pytest.mark.parametrize("parallel", [None, False])
def test_what_must_be_called(ask, seen, choice, parallel):
    if choice == "none" and parallel is False:
        pytest.skip("no format says both")
    answer = ask(tools=[WEATHER, CLOCK], choice=choice, parallel=parallel)
    assert (seen()["choice"], seen()["parallel"]) == (choice, parallel)
    called = {"any": ["weather"], "clock": ["clock"]}.get(choice, [])
    assert [call.name for call in answer.calls] == called
    assert answer.stop == ("tools" if called else "end")


def test_results_with_images_and_failures(ask, seen, client, provider):
    answer = ask(tools=[WEATHER], script={"tool_calls": CALLS[:2]})
    results = [Result("call_a", ["A picture.", Image()]), Result("call_b", ["no such zone"], failed=True)]
    assert ask([*HELLO, answer, *results], tools=[WEATHER]).stop == "end"
    blocks = seen()["turns"][-1][1]
    held = {block[1]: block for block in blocks if block[0] == "result"}
    inside = [block for block in held["call_a"][2] if block[0] == "image"]
    beside = [block for block in blocks if block[0] == "image"]
    # OpenAI's own messages of tools hold no images; such a request is translated with the image behind them.
    assert inside + beside == [("image", PIXEL)]
    assert bool(beside) == (provider == "openai" and not client.speaks_openai)
    failed = held["call_b"]
    if client.speaks_openai:
        assert failed[2:] == ([("text", "no such zone")], False)
    elif provider == "openai":
        assert failed[2] == [("text", "The tool failed.\nno such zone")]
    else:
        assert failed[2:] == ([("text", "no such zone")], True)


def test_images_and_documents(ask, seen):
    ask([User(["Look:", Image(), Pdf()])])
    assert seen()["turns"] == [("user", [("text", "Look:"), ("image", PIXEL), ("pdf", PAPER)])]


def test_signed_thinking_over_two_turns(ask, seen, client, provider, upstream):
    """The second turn carries the first one's bytes, even where the client knows nothing of thinking."""
    script = {"reasoning": "Both at once.", "signature": "c2lnbmVk", "text": "I look.", "tool_calls": CALLS[:2]}
    if provider == "anthropic":
        script["redacted_reasoning"] = "c2VhbGVk"
    answer = ask(tools=[WEATHER, CLOCK], effort="high", script=script)
    assert answer.text == "I look."
    if client.name in ("openai", "anthropic"):
        assert answer.thinking == "Both at once."
    turn = answer.said() if client.speaks_openai else answer
    results = [Result(call.id, ["fine"]) for call in answer.calls]
    upstream.clear()
    assert ask([*HELLO, turn, *results], tools=[WEATHER, CLOCK], effort="high", script={"text": "Done."}).text == "Done."
    role, blocks = seen()["turns"][1]
    calls = [("text", "I look."), *(("call", c["id"], c["name"], c["arguments"]) for c in CALLS[:2])]
    thinking = [("redacted", "c2VhbGVk"), ("thinking", "Both at once.", "c2lnbmVk")]
    assert (role, blocks) == ("assistant", (thinking if provider == "anthropic" else []) + calls)


def test_cache_marks_and_equal_bytes(ask, client, provider, upstream):
    turns = [User(["A long text.", Image()], cached=True)]
    for _ in range(2):
        ask(turns, system="Be brief.", tools=[WEATHER, CLOCK], cached=True)
    first, second = upstream.requests()
    assert first.text == second.text
    marks = first.text.replace(" ", "").count('"cache_control":{"type":"ephemeral"}')
    body = first.body
    if provider == "anthropic":
        marked = [body["system"][-1], body["tools"][-1], body["messages"][0]["content"][-1]]
        assert [part["cache_control"] for part in marked] == [{"type": "ephemeral"}] * 3
        assert marks == 3
    elif not client.speaks_openai:
        assert marks == 0, "it caches by itself, and would refuse the marks"


def test_an_answer_of_a_schema(ask, seen):
    answer = ask(schema=SCHEMA, script={"text": json.dumps({"title": "Grüße", "steps": ["a", "b"]})})
    assert (json.loads(answer.text), answer.calls, answer.stop) == ({"title": "Grüße", "steps": ["a", "b"]}, [], "end")
    assert seen()["schema"] == SCHEMA


def test_an_answer_of_a_schema_of_a_model_that_knows_none(ask, client, upstream):
    """Older models of Anthropic's are made to call a tool, of which the client sees nothing."""
    if not client.speaks_openai:
        pytest.skip("what Anthropic refuses there, its clients do not ask for")
    answer = ask(schema=SCHEMA, model="claude/claude-3-7-sonnet-latest")
    assert (sorted(json.loads(answer.text)), answer.calls, answer.stop) == (["steps", "title"], [], "end")
    assert upstream.only().body["tools"][0]["input_schema"] == SCHEMA


def test_limits_and_names(ask, seen, client):
    ask(max_tokens=321, stop=["END", "STOP"], user="user-7")
    found = seen()
    user = None if client.name == "langchain-anthropic" else "user-7"
    assert (found["max_tokens"], found["stop"], found["user"]) == (321, ["END", "STOP"], user)


def test_the_old_spelling_of_the_limit(ask, seen, client):
    if client.name != "openai":
        pytest.skip("only the SDK says it still")
    ask(more={"max_tokens": 123})
    assert seen()["max_tokens"] == 123


@pytest.mark.parametrize(("budget", "effort"), [(1_024, "low"), (8_192, "medium"), (20_000, "high")])
def test_a_budget_of_thinking_is_an_effort_elsewhere(ask, seen, client, upstream, provider, budget, effort):
    if client.name != "anthropic":
        pytest.skip("the format's own")
    thinking = {"type": "enabled", "budget_tokens": budget}
    ask(max_tokens=30_000, more={"thinking": thinking})
    if provider == "openai":
        assert seen()["effort"] == effort
    else:
        assert upstream.only().body["thinking"] == thinking


def test_an_answer_that_is_too_long(ask):
    answer = ask(script={"text": "one two", "finish_reason": "length"})
    assert (answer.text, answer.stop) == ("one two", "length")


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_effort(ask, seen, upstream, effort):
    ask(effort=effort)
    assert seen()["effort"] == effort


def test_a_refusal(ask, client, provider, stream):
    if (client.name, provider, stream) == ("langchain-openai", "openai", True):
        pytest.skip("LangChain drops the refusals of streams")
    answer = ask(script={"refusal": "I cannot help with that."})
    assert "I cannot help with that." in (answer.refusal, answer.text)
    if not client.speaks_openai or provider == "anthropic":
        assert answer.stop == "refusal"


# What a provider says: its status, and the script's other members; the exception of each official SDK.
REFUSALS = [
    (400, {}, "BadRequestError", "BadRequestError"),
    (401, {}, "AuthenticationError", "AuthenticationError"),
    (403, {}, "PermissionDeniedError", "PermissionDeniedError"),
    (404, {}, "NotFoundError", "NotFoundError"),
    (413, {}, "APIStatusError", "RequestTooLargeError"),
    (429, {"retry_after": 7}, "RateLimitError", "RateLimitError"),
    (500, {}, "InternalServerError", "InternalServerError"),
    (503, {}, "InternalServerError", "InternalServerError"),
    (504, {}, "InternalServerError", "InternalServerError"),
    (529, {}, "InternalServerError", "InternalServerError"),
]


@pytest.mark.parametrize(("status", "script", "openai_kind", "anthropic_kind"), REFUSALS)
def test_a_refused_call_is_the_sdks_own_exception(
    ask, client, provider, stream, status, script, openai_kind, anthropic_kind
):
    # A target of its own: keys that were refused and limits that were reached rest.
    model = f"refused-{provider}/{client.name}-{status}-{stream}"
    kind = getattr(client.errors, openai_kind if client.speaks_openai else anthropic_kind)
    with pytest.raises(kind) as caught:
        ask(model=model, script={"status": status, "message": "As scripted.", **script})
    error = caught.value
    assert "As scripted." in str(error) and error.request_id
    if status == 429:
        assert error.response.headers["retry-after"] == "7"
    assert error.response.headers["x-switchboard-target"] == model
    permanent = status < 500 and status != 429
    assert (error.response.headers.get("x-should-retry") == "false") == permanent


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("mock-context-length", "context_length_exceeded"),
        ("mock-quota", "insufficient_quota"),
        ("mock-content-filter", "content_policy_violation"),
    ],
)
def test_what_programs_look_for(ask, client, provider, model, code):
    """Programs shorten the conversation, or stop, by the code of OpenAI's errors, and by the words of Anthropic's."""
    with pytest.raises(client.errors.APIStatusError) as caught:
        ask(model=f"refused-{provider}/{model}")
    if client.speaks_openai:
        assert caught.value.code == code
        assert isinstance(caught.value, client.errors.RateLimitError) == (model == "mock-quota")
    else:
        assert caught.value.type == ("billing_error" if model == "mock-quota" else "invalid_request_error")


BREAKS = [
    {"reset": {"after_chunk": 3}},
    {"cut_at_byte": 1_300},
    {"end_after_chunk": 3},
    {"error_after_chunks": 3},
    {"error_after_chunks": 3, "error_type": "overloaded_error", "message": "Overloaded"},
]


@pytest.mark.parametrize("stream", [True], indirect=True)
@pytest.mark.parametrize("fault", BREAKS, ids=str)
@pytest.mark.parametrize("content", [TEN, CALLING], ids=["text", "calls"])
def test_a_stream_that_breaks_never_ends_well(ask, client, fault, content):
    with pytest.raises((client.errors.APIError, httpx2.HTTPError)):
        ask(tools=[WEATHER], script={**content, **fault})


def test_tokens_are_counted(provider, upstream):
    """By the provider that can be asked; elsewhere an estimate, marked as one."""
    with anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, max_retries=0) as client:
        asked = {"model": PROVIDERS[provider], "messages": [{"role": "user", "content": "Hello " * 100}]}
        counted = client.messages.with_raw_response.count_tokens(**asked, system="Be brief.")
        assert 50 < counted.parse().input_tokens < 400
    is_asked = provider == "anthropic"
    assert len(upstream.requests()) == int(is_asked)
    assert ("x-switchboard-estimated" in counted.headers) == (not is_asked)
    model = CLIENTS["langchain-anthropic"]().model(PROVIDERS[provider], Ask([])).bound
    assert model.get_num_tokens_from_messages([HumanMessage("Hello")]) > 0
