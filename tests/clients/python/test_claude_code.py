"""Claude Code itself, without a terminal, against the gateway: every session must go as the mock has scripted it, whichever
format the provider speaks. `../run.sh` installs it and names it in the environment.
"""

import json
import os
import signal
import subprocess
import time

import pytest

from conftest import GATEWAY, KEY
from talk import witness

PROGRAM = os.environ.get("CLIENTS_CLAUDE_CODE")
PROVIDERS = {"anthropic": "claude/claude-opus-4-8", "openai": "openai/gpt-5.5"}

pytestmark = pytest.mark.skipif(not PROGRAM, reason="CLIENTS_CLAUDE_CODE is not set")


class Session:
    """One run of the program, in a directory and with a home of its own."""

    def __init__(self, directory, model):
        self.directory = directory
        environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(directory / "home"),
            "ANTHROPIC_BASE_URL": GATEWAY,
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_MODEL": model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
        }
        self.options = {"cwd": directory, "env": environment, "text": True, "stdin": subprocess.DEVNULL}
        self.options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        (directory / "home").mkdir()
        (directory / "note.txt").write_text("the note says 42\n")

    def start(self, prompt):
        tools = "Read,ToolSearch,Bash(echo:*)"
        arguments = ["-p", prompt, "--output-format", "stream-json", "--verbose", "--allowedTools", tools]
        return subprocess.Popen([PROGRAM, *arguments], **self.options)

    def run(self, prompt):
        """What it says at the end, and the blocks of its transcript in their order."""
        process = self.start(prompt)
        try:
            out, errors = process.communicate(timeout=50)
        finally:
            process.kill()
        events = [json.loads(line) for line in out.splitlines()]
        result = next((event for event in events if event["type"] == "result"), None)
        assert result and process.returncode == 0, (process.returncode, out[-2_000:], errors[-2_000:])
        assert (result["subtype"], result["is_error"]) == ("success", False), result
        said = (event["message"]["content"] for event in events if event["type"] in ("assistant", "user"))
        self.usage = result["usage"]
        return result["result"], [block for content in said for block in content]


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


@pytest.fixture
def session(provider, tmp_path):
    return Session(tmp_path, PROVIDERS[provider])


def call(id, name, **arguments):
    return {"id": id, "name": name, "arguments": arguments}


def told(upstream):
    """The blocks of the last request's last turn of the user, and of the assistant's before it."""
    turns = witness(upstream.requests()[-1])["turns"]
    assistant = max(place for place, (role, _) in enumerate(turns) if role == "assistant")
    return turns[assistant][1], [block for role, blocks in turns[assistant + 1 :] for block in blocks if role == "user"]


def test_a_session_with_tools_and_interleaved_thinking(session, provider, upstream):
    """Two rounds, the first with two calls at once. What the client put together is what the mock has said, and what it
    sends back is that again: signed thinking to its issuer, and to nobody else.
    """
    note = str(session.directory / "note.txt")
    say = call("toolu_b", "Bash", command='echo "out of bash"', description="é")
    rounds = [
        [call("toolu_a", "Read", file_path=note), say],
        [call("toolu_c", "Bash", command="echo again", description="Again")],
    ]
    usage = {"prompt_tokens": 12_000, "cached_tokens": 9_000, "completion_tokens": 40, "reasoning_tokens": 25}
    thinking = {"reasoning": "Let me see. 🤔", "signature": "c2lnbmVk", "usage": usage}
    upstream.enqueue(
        {"text": "I look.", "tool_calls": rounds[0], **thinking},
        {"text": "And again.", "tool_calls": rounds[1], **thinking},
        {"text": "Done: 42.", "usage": usage},
    )
    result, blocks = session.run("What does the note say?")
    assert result == "Done: 42."
    kinds = [block["type"] for block in blocks]
    assert kinds == [
        *("thinking", "text", "tool_use", "tool_use", "tool_result", "tool_result"),
        *("thinking", "text", "tool_use", "tool_result"),
        "text",
    ]
    made = [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    assert made == [(c["id"], c["name"], c["arguments"]) for calls in rounds for c in calls]
    assert [block["thinking"] for block in blocks if block["type"] == "thinking"] == ["Let me see. 🤔"] * 2
    assert (session.usage["cache_read_input_tokens"], session.usage["output_tokens"]) == (27_000, 120)
    sent = upstream.requests()
    assert [request.state for request in sent] == ["complete"] * 3
    assistant, user = told(upstream)
    signed = [("thinking", "Let me see. 🤔", "c2lnbmVk")] if provider == "anthropic" else []
    assert assistant == [*signed, ("text", "And again."), ("call", "toolu_c", "Bash", rounds[1][0]["arguments"])]
    assert user[0] == ("result", "toolu_c", [("text", "again")], False)
    results = [block for _, turn in witness(sent[1])["turns"] for block in turn if block[0] == "result"]
    assert [result[1] for result in results] == ["toolu_a", "toolu_b"]
    assert "42" in results[0][2][0][1] and results[1][2] == [("text", "out of bash")]


def test_what_only_anthropic_knows(session, provider, upstream):
    """Betas and the members they gate reach Anthropic together; elsewhere nothing of them is left to be refused."""
    upstream.say(text="Hello.")
    assert session.run("Hello")[0] == "Hello."
    seen = upstream.only()
    body = seen.body
    betas = seen.headers.get("anthropic-beta", "")
    if provider == "anthropic":
        assert "context-management-2025-06-27" in betas and "claude-code-20250219" in betas
        assert body["context_management"]["edits"] and body["thinking"]["type"] == "adaptive"
        assert "session_id" in json.loads(body["metadata"]["user_id"])
        assert any(tool.get("defer_loading") for tool in body["tools"])
        assert "cache_control" in seen.text
    else:
        assert betas == "" and "anthropic-version" not in seen.headers
        assert not {"context_management", "thinking", "metadata", "system", "output_config"} & set(body)
        assert "cache_control" not in seen.text and "defer_loading" not in seen.text
        # Beside tools this model refuses an effort in this API.
        assert body["tools"] and "reasoning_effort" not in body
        assert body["stream_options"] == {"include_usage": True}
        # The program's id of the user is longer than OpenAI takes one.
        assert 0 < len(body["user"]) <= 64


def test_a_search_for_tools(session, provider, upstream):
    search = call("toolu_s", "ToolSearch", query="select:WebFetch", max_results=3)
    upstream.enqueue({"tool_calls": [search]}, {"text": "Found."})
    assert session.run("Find a tool.")[0] == "Found."
    first, second = upstream.requests()
    before, after = ({name for name, _ in witness(request)["tools"]} for request in (first, second))
    assert after - before == {"WebFetch"}
    if provider == "openai":
        assert told(upstream)[1][0] == ("result", "toolu_s", [("text", "WebFetch")], False)
    else:
        assert '"tool_reference"' in second.text


def test_tokens_are_counted(session, provider, upstream):
    result, _ = session.run("/context")
    assert "System prompt" in result
    asked = [request.raw["path"] for request in upstream.requests()]
    assert set(asked) == ({"/v1/messages/count_tokens"} if provider == "anthropic" else set())


@pytest.mark.parametrize(
    "fault", [{"end_after_chunk": 3}, {"reset": {"after_chunk": 3}}, {"error_after_chunks": 3}], ids=str
)
def test_a_stream_that_breaks_is_asked_for_again(session, upstream, fault):
    """What is shown in the end is the whole answer of the second try, and nothing of the half one."""
    upstream.enqueue({"text": "one two three four five six", "chunk_delay": "10ms", **fault})
    upstream.say(text="The whole answer.")
    result, blocks = session.run("Hello")
    assert (result, [block["text"] for block in blocks]) == ("The whole answer.", ["The whole answer."])
    assert len(upstream.requests()) == 2


def test_an_overloaded_provider_is_waited_for(session, upstream):
    upstream.enqueue(*[{"status": 529}] * 4)
    upstream.say(text="After a storm.")
    assert session.run("Hello")[0] == "After a storm."


def test_stopping_it_ends_the_call(session, upstream):
    upstream.say(chunks=100_000, chunk_delay="10ms")
    process = session.start("Hello")
    try:
        upstream.wait_for("pending", within=20)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        upstream.wait_for("aborted", within=10)
    finally:
        process.kill()
        process.communicate()


def test_the_window_of_a_million_tokens(provider, tmp_path, upstream):
    if provider == "openai":
        pytest.skip("Anthropic's own")
    upstream.say(text="Hello.")
    assert Session(tmp_path, "claude/claude-sonnet-4-5[1m]").run("Hello")[0] == "Hello."
    seen = upstream.only()
    assert "context-1m-2025-08-07" in seen.headers["anthropic-beta"]
    assert seen.body["model"] == "claude-sonnet-4-5"
