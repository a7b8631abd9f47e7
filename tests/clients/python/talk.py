"""One conversation in every client's words: what is asked, what the client understood of the answer, and what reached the
mock, each in the same terms, so that a test is written once for all clients and both formats of a provider.
"""

import json
from dataclasses import dataclass, field, replace

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI

from conftest import GATEWAY, KEY

# A pixel, and the shortest beginning of a PDF.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PAPER = "JVBERi0xLjQKJeLjz9MK"
EPHEMERAL = {"type": "ephemeral"}


@dataclass(frozen=True)
class Image:
    data: str = PIXEL


@dataclass(frozen=True)
class Pdf:
    data: str = PAPER
    name: str = "paper.pdf"


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: str

    @property
    def read(self):
        return (self.id, self.name, json.loads(self.arguments))


@dataclass
class User:
    """What the user says: texts, images and documents. `cached`: with a mark behind the last of them."""

    parts: list
    cached: bool = False


@dataclass
class Result:
    """What a tool returned."""

    id: str
    parts: list
    failed: bool = False


@dataclass
class Answer:
    """What the client understood."""

    text: str
    calls: list
    stop: str
    # Fresh input, input from a cache, output with thinking, thinking.
    usage: tuple | None
    thinking: str = ""
    refusal: str | None = None
    # As the client's own library would send it back.
    native: object = None

    def said(self):
        """The turn as a program sends it back that knows the format's standard members only."""
        return Said(self.text, self.calls)


@dataclass
class Said:
    text: str
    calls: list


@dataclass
class Ask:
    turns: list
    system: str | None = None
    tools: list = field(default_factory=list)
    # `auto`, `any`, `none` or the name of a tool.
    choice: str | None = None
    parallel: bool | None = None
    schema: dict | None = None
    max_tokens: int | None = None
    stop: list | None = None
    effort: str | None = None
    user: str | None = None
    # Marks on the system's text and the last tool.
    cached: bool = False


def tool(name, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"name": name, "description": f"The {name}.", "schema": schema}


def without_nothing(members):
    return {name: value for name, value in members.items() if value is not None and value != []}


STOPS = {
    "stop": "end", "end_turn": "end", "stop_sequence": "end",
    "length": "length", "max_tokens": "length",
    "tool_calls": "tools", "tool_use": "tools",
    "content_filter": "refusal", "refusal": "refusal",
}  # fmt: skip


class OpenAi:
    """The official SDK for chat completions."""

    name = "openai"
    errors = openai
    speaks_openai = True

    def __init__(self):
        self.sdk = openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, timeout=30)

    @staticmethod
    def part(part):
        match part:
            case Image():
                return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{part.data}"}}
            case Pdf():
                data = f"data:application/pdf;base64,{part.data}"
                return {"type": "file", "file": {"filename": part.name, "file_data": data}}
            case str():
                return {"type": "text", "text": part}

    @staticmethod
    def call(call):
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

    def content(self, parts, cached=False):
        if not cached and len(parts) == 1 and isinstance(parts[0], str):
            return parts[0]
        content = [self.part(part) for part in parts]
        if cached:
            content[-1]["cache_control"] = EPHEMERAL
        return content

    def turn(self, turn):
        match turn:
            case User():
                return {"role": "user", "content": self.content(turn.parts, turn.cached)}
            case Said():
                calls = [self.call(call) for call in turn.calls]
                return {"role": "assistant", "content": turn.text or None} | ({"tool_calls": calls} if calls else {})
            case Result():
                return {"role": "tool", "tool_call_id": turn.id, "content": self.content(turn.parts)}
            case Answer():
                return turn.native

    @staticmethod
    def tool(tool):
        function = {"name": tool["name"], "description": tool["description"], "parameters": tool["schema"]}
        return {"type": "function", "function": function}

    def request(self, model, ask):
        system = [{"role": "system", "content": self.content([ask.system], ask.cached)}] if ask.system else []
        tools = [self.tool(tool) for tool in ask.tools]
        if ask.cached and tools:
            tools[-1]["cache_control"] = EPHEMERAL
        choice = {"auto": "auto", "any": "required", "none": "none", None: None}.get(
            ask.choice, {"type": "function", "function": {"name": ask.choice}}
        )
        schema = {"name": "answer", "schema": ask.schema, "strict": True}
        return without_nothing({
            "model": model,
            "messages": system + [self.turn(turn) for turn in ask.turns],
            "tools": tools,
            "tool_choice": choice,
            "parallel_tool_calls": ask.parallel,
            "response_format": {"type": "json_schema", "json_schema": schema} if ask.schema else None,
            "max_completion_tokens": ask.max_tokens,
            "stop": ask.stop,
            "reasoning_effort": ask.effort,
            "user": ask.user,
        })  # fmt: skip

    def send(self, model, ask, stream, **more):
        request = self.request(model, ask) | more
        if not stream:
            return self.understood(self.sdk.chat.completions.create(**request))
        options = {"include_usage": True}
        with self.sdk.chat.completions.create(stream=True, stream_options=options, **request) as chunks:
            return self.joined(chunks)

    def understood(self, completion):
        (choice,) = completion.choices
        message = choice.message
        calls = [Call(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or []]
        thinking = getattr(message, "reasoning_content", None) or ""
        native = message.model_dump(exclude_none=True)
        text, stop, usage = message.content or "", STOPS[choice.finish_reason], self.usage(completion.usage)
        return Answer(text, calls, stop, usage, thinking, message.refusal, native)

    def joined(self, chunks):
        answer = Answer("", [], None, None)
        calls = {}
        for chunk in chunks:
            answer.usage = self.usage(chunk.usage) or answer.usage
            for choice in chunk.choices:
                delta = choice.delta
                answer.text += delta.content or ""
                answer.thinking += getattr(delta, "reasoning_content", None) or ""
                answer.refusal = (answer.refusal or "") + delta.refusal if delta.refusal else answer.refusal
                for part in delta.tool_calls or []:
                    call = calls.setdefault(part.index, ["", "", ""])
                    for place, piece in enumerate((part.id, part.function.name, part.function.arguments)):
                        call[place] += piece or ""
                answer.stop = STOPS[choice.finish_reason] if choice.finish_reason else answer.stop
        assert answer.stop, "the stream ended without a reason"
        assert sorted(calls) == list(range(len(calls)))
        answer.calls = [Call(*calls[index]) for index in sorted(calls)]
        answer.native = self.turn(answer.said())
        return answer

    @staticmethod
    def usage(usage):
        if usage is None:
            return None
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
        details = usage.completion_tokens_details
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        fresh = usage.prompt_tokens - (cached or 0)
        return (fresh, cached or 0, usage.completion_tokens, details.reasoning_tokens if details else 0)


class Anthropic:
    """The official SDK for messages."""

    name = "anthropic"
    errors = anthropic
    speaks_openai = False

    def __init__(self):
        self.sdk = anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, max_retries=0, timeout=30)

    @staticmethod
    def part(part):
        match part:
            case Image():
                return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": part.data}}
            case Pdf():
                source = {"type": "base64", "media_type": "application/pdf", "data": part.data}
                return {"type": "document", "source": source, "title": part.name}
            case str():
                return {"type": "text", "text": part}

    def content(self, parts, cached=False):
        content = [self.part(part) for part in parts]
        if cached:
            content[-1]["cache_control"] = EPHEMERAL
        return content

    def turns(self, turns):
        messages = []
        for turn in turns:
            match turn:
                case User():
                    role, content = "user", self.content(turn.parts, turn.cached)
                case Said():
                    role, content = "assistant", self.content([turn.text] if turn.text else [])
                    for call in turn.calls:
                        id, name, arguments = call.read
                        content.append({"type": "tool_use", "id": id, "name": name, "input": arguments})
                case Result():
                    result = {"type": "tool_result", "tool_use_id": turn.id, "content": self.content(turn.parts)}
                    role, content = "user", [result | ({"is_error": True} if turn.failed else {})]
                case Answer():
                    role, content = "assistant", turn.native
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += content
            else:
                messages.append({"role": role, "content": content})
        return messages

    def request(self, model, ask):
        tools = [{"name": t["name"], "description": t["description"], "input_schema": t["schema"]} for t in ask.tools]
        if ask.cached and tools:
            tools[-1]["cache_control"] = EPHEMERAL
        choice = {"type": ask.choice} if ask.choice in ("auto", "any", "none") else {"type": "tool", "name": ask.choice}
        if ask.parallel is False:
            choice["disable_parallel_tool_use"] = True
        output = {}
        if ask.schema:
            output["format"] = {"type": "json_schema", "schema": ask.schema}
        if ask.effort:
            output["effort"] = ask.effort
        return without_nothing({
            "model": model,
            "max_tokens": ask.max_tokens or 4_000,
            "system": self.content([ask.system], ask.cached) if ask.system else None,
            "messages": self.turns(ask.turns),
            "tools": tools,
            "tool_choice": choice if ask.choice else None,
            "stop_sequences": ask.stop,
            "output_config": output or None,
            "thinking": {"type": "adaptive"} if ask.effort else None,
            "metadata": {"user_id": ask.user} if ask.user else None,
        })  # fmt: skip

    def send(self, model, ask, stream, **more):
        request = self.request(model, ask) | more
        if not stream:
            return self.understood(self.sdk.messages.create(**request))
        with self.sdk.messages.stream(**request) as events:
            kinds = [event.type for event in events]
            assert kinds[-1] == "message_stop", kinds
            return self.understood(events.get_final_message())

    def understood(self, message):
        text = "".join(block.text for block in message.content if block.type == "text")
        used = [block for block in message.content if block.type == "tool_use"]
        calls = [Call(block.id, block.name, json.dumps(block.input)) for block in used]
        thinking = "".join(block.thinking for block in message.content if block.type == "thinking")
        usage = message.usage
        details = getattr(usage, "output_tokens_details", None)
        thought = (details.thinking_tokens if details else 0) or 0
        counts = (usage.input_tokens, usage.cache_read_input_tokens or 0, usage.output_tokens, thought)
        stop = STOPS[message.stop_reason]
        refusal = text if stop == "refusal" else None
        native = [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in message.content]
        return Answer(text, calls, stop, counts, thinking, refusal, native)


class LangChain:
    """What LangChain's two chat models have in common."""

    def send(self, model, ask, stream, **more):
        messages = [SystemMessage(self.official.content([ask.system], ask.cached))] if ask.system else []
        messages += [self.turn(turn) for turn in ask.turns]
        bound = self.model(model, ask, **more)
        if not stream:
            return self.understood(bound.invoke(messages))
        whole = None
        for chunk in bound.stream(messages):
            whole = chunk if whole is None else whole + chunk
        return self.understood(whole)

    def turn(self, turn):
        match turn:
            case User():
                return HumanMessage(self.official.content(turn.parts, turn.cached))
            case Said():
                calls = [{"id": call.id, "name": call.name, "args": call.read[2]} for call in turn.calls]
                return AIMessage(turn.text, tool_calls=calls)
            case Result():
                status = "error" if turn.failed else "success"
                return ToolMessage(self.official.content(turn.parts), tool_call_id=turn.id, status=status)
            case Answer():
                return turn.native

    def understood(self, message):
        calls = [Call(call["id"], call["name"], json.dumps(call["args"])) for call in message.tool_calls]
        assert not message.invalid_tool_calls
        stop = message.response_metadata.get("finish_reason") or message.response_metadata["stop_reason"]
        usage = message.usage_metadata
        cached = usage.get("input_token_details", {}).get("cache_read", 0)
        thought = usage.get("output_token_details", {}).get("reasoning", 0)
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        counts = (usage["input_tokens"] - cached, cached, usage["output_tokens"], thought)
        thinking = "".join(block.get("thinking", "") for block in message.content if isinstance(block, dict))
        refusal = message.additional_kwargs.get("refusal")
        return Answer(str(message.text), calls, STOPS[stop], counts, thinking, refusal, message)


class LangChainOpenAi(LangChain):
    name = "langchain-openai"
    errors = openai
    speaks_openai = True

    def __init__(self):
        self.official = OpenAi()

    def model(self, name, ask, **more):
        request = self.official.request(name, replace(ask, turns=[], system=None))
        options = {"model": name, "base_url": f"{GATEWAY}/v1", "api_key": KEY, "max_retries": 0, "stream_usage": True}
        names = {"max_completion_tokens": "max_tokens", "stop": "stop", "reasoning_effort": "reasoning_effort"}
        options |= {to: request.pop(name) for name, to in names.items() if name in request}
        bound = {name: value for name, value in request.items() if name not in ("model", "messages")}
        return ChatOpenAI(**options).bind(**bound, **more)


class LangChainAnthropic(LangChain):
    name = "langchain-anthropic"
    errors = anthropic
    speaks_openai = False

    def __init__(self):
        self.official = Anthropic()

    def model(self, name, ask, **more):
        request = self.official.request(name, replace(ask, turns=[], system=None))
        options = {"model": name, "base_url": GATEWAY, "api_key": KEY, "max_retries": 0, "stream_usage": True}
        known = ("max_tokens", "stop_sequences", "thinking", "output_config")
        options |= {name: request.pop(name) for name in known if name in request}
        # LangChain's own `metadata` hides the provider's.
        request.pop("metadata", None)
        bound = {name: value for name, value in request.items() if name not in ("model", "messages")}
        return ChatAnthropic(**options).bind(**bound, **more)


CLIENTS = {kind.name: kind for kind in (OpenAi, Anthropic, LangChainOpenAi, LangChainAnthropic)}


def witness(seen):
    """What reached the mock: its texts, blocks and parameters, whatever the format."""
    body = seen.body
    return _messages(body) if seen.raw["path"].startswith("/v1/messages") else _completions(body)


def _completions(body):
    def block(part):
        match part["type"]:
            case "text":
                return ("text", part["text"])
            case "image_url":
                return ("image", part["image_url"]["url"].removeprefix("data:image/png;base64,"))
            case "file":
                return ("pdf", part["file"]["file_data"].removeprefix("data:application/pdf;base64,"))

    def blocks(content):
        if content is None:
            return []
        return [("text", content)] if isinstance(content, str) else [block(part) for part in content]

    turns, system = [], []
    for message in body["messages"]:
        role, said = message["role"], blocks(message.get("content"))
        if role in ("system", "developer"):
            system += said
        elif role == "tool":
            turns.append(("user", [("result", message["tool_call_id"], said, False)]))
        else:
            for call in message.get("tool_calls") or []:
                function = call["function"]
                said.append(("call", call["id"], function["name"], json.loads(function["arguments"])))
            turns.append((role, said))
    choice = body.get("tool_choice")
    schema = (body.get("response_format") or {}).get("json_schema") or {}
    return {
        "system": [text for _, text in system],
        "turns": _joined(turns),
        "tools": [(t["function"]["name"], t["function"]["parameters"]) for t in body.get("tools", [])],
        "choice": choice["function"]["name"] if isinstance(choice, dict) else {"required": "any"}.get(choice, choice),
        "parallel": body.get("parallel_tool_calls"),
        "schema": schema.get("schema"),
        "max_tokens": body.get("max_completion_tokens", body.get("max_tokens")),
        "stop": [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop"),
        "effort": body.get("reasoning_effort"),
        "user": body.get("user"),
    }


def _messages(body):
    def block(part):
        match part["type"]:
            case "text":
                return ("text", part["text"])
            case "image":
                return ("image", part["source"]["data"])
            case "document":
                return ("pdf", part["source"]["data"])
            case "tool_use":
                return ("call", part["id"], part["name"], part["input"])
            case "tool_result":
                return ("result", part["tool_use_id"], blocks(part.get("content")), part.get("is_error") is True)
            case "thinking":
                return ("thinking", part["thinking"], part["signature"])
            case "redacted_thinking":
                return ("redacted", part["data"])

    def blocks(content):
        if content is None:
            return []
        return [("text", content)] if isinstance(content, str) else [block(part) for part in content]

    turns = [(message["role"], blocks(message["content"])) for message in body["messages"]]
    choice = body.get("tool_choice") or {}
    parallel = choice.get("disable_parallel_tool_use")
    output = body.get("output_config") or {}
    return {
        "system": [text for _, text in blocks(body.get("system"))],
        "turns": _joined(turns),
        "tools": [(t["name"], t["input_schema"]) for t in body.get("tools", [])],
        "choice": choice.get("name") or choice.get("type"),
        "parallel": None if parallel is None else not parallel,
        "schema": (output.get("format") or {}).get("schema"),
        "max_tokens": body.get("max_tokens"),
        "stop": body.get("stop_sequences"),
        "effort": output.get("effort"),
        "user": (body.get("metadata") or {}).get("user_id"),
    }


def _joined(turns):
    """Turns of the same role one after the other are one."""
    joined = []
    for role, blocks in turns:
        if joined and joined[-1][0] == role:
            joined[-1][1].extend(blocks)
        else:
            joined.append((role, blocks))
    return joined
