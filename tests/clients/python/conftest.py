"""What the tests share: clients of a running gateway and of the mock, and a view of what the mock, its upstream, was
sent.

`../run.sh` starts both and names them in the environment. A test scripts the mock through the request member `mock`,
which the gateway forwards as it does every member it does not know, or through the mock's control API.
"""

import json
import os
import time
from dataclasses import dataclass

import anthropic
import httpx
import openai
import pytest

GATEWAY = os.environ.get("CLIENTS_GATEWAY", "")
MOCK = os.environ.get("CLIENTS_MOCK_ROOT", "")
KEY = "sk-clients-everything"
HELLO = [{"role": "user", "content": "Hello"}]


# Who answers in Anthropic's format: a name, a base URL, a key and a model. The mock itself is among them, so that it is
# known to be right before anything is held against it.
MESSAGES_TARGETS = {
    "mock": (MOCK, "upstream-key-of-mock", "upstream-assistant"),
    # Through the gateway: in the pass lane, and translated from OpenAI's format.
    "gateway": (GATEWAY, KEY, "claude/upstream-assistant"),
    "gateway over openai": (GATEWAY, KEY, "mock/upstream-assistant"),
}


def pytest_configure():
    if not GATEWAY or not MOCK:
        raise pytest.UsageError("CLIENTS_GATEWAY and CLIENTS_MOCK_ROOT are not set; run tests/clients/run.sh")


def script(**behaviour):
    """Keyword arguments that script the mock's answer to one request."""
    return {"extra_body": {"mock": behaviour}}


def completion(**choice):
    """The text of a whole chat completion with one choice, for scripts that say every byte."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "upstream-assistant",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}, **choice}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
    return json.dumps(body)


@dataclass
class Seen:
    """A request as it reached the mock."""

    raw: dict

    @property
    def body(self):
        return json.loads(self.raw["body"])

    @property
    def text(self):
        return self.raw["body"]

    @property
    def headers(self):
        return self.raw["headers"]

    @property
    def state(self):
        return self.raw["outcome"]["state"]


class Upstream:
    """The mock, through its control API."""

    def __init__(self):
        self.http = httpx.Client(base_url=MOCK, timeout=10)

    def clear(self):
        self.http.delete("/_mock").raise_for_status()
        self.say()

    def say(self, **behaviour):
        """Scripts every answer from now on, whatever becomes of the request on its way."""
        self.http.put("/_mock/default", json=behaviour).raise_for_status()

    def enqueue(self, *scripts):
        self.http.put("/_mock/script", json=list(scripts)).raise_for_status()

    def requests(self):
        return [Seen(raw) for raw in self.http.get("/_mock/requests").raise_for_status().json()]

    def only(self):
        """The one request that was sent."""
        (request,) = self.requests()
        return request

    def wait_for(self, state, within=5.0):
        """Waits until the one request that was sent has come to `state`, and returns it."""
        end = time.monotonic() + within
        while True:
            states = [request.state for request in self.requests()]
            if states == [state]:
                return self.only()
            assert time.monotonic() < end, f"the mock saw {states}, not one request that is {state}"
            time.sleep(0.02)


@pytest.fixture
def upstream():
    mock = Upstream()
    mock.clear()
    yield mock
    mock.clear()


@pytest.fixture
def client():
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
async def async_client():
    async with openai.AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


@dataclass
class Target:
    """A server that speaks Anthropic's format."""

    name: str
    base_url: str
    key: str
    model: str
    upstream: Upstream

    @property
    def is_mock(self):
        return self.name == "mock"

    @property
    def is_translated(self):
        return self.name == "gateway over openai"

    def script(self, **behaviour):
        """Scripts the mock's answer to the next request. A translated request has no member for it."""
        if self.is_translated:
            self.upstream.say(**behaviour)
            return {}
        return script(**behaviour)

    def asked(self, **more):
        """What every request for a message has."""
        return {"model": self.model, "max_tokens": 1_000, "messages": HELLO, **more}

    def client(self, kind=anthropic.Anthropic, **options):
        return kind(**{"base_url": self.base_url, "api_key": self.key, "max_retries": 0, "timeout": 30, **options})


@pytest.fixture(params=MESSAGES_TARGETS)
def target(request, upstream):
    return Target(request.param, *MESSAGES_TARGETS[request.param], upstream)


@pytest.fixture
def claude(target):
    with target.client() as client:
        yield client


@pytest.fixture
async def async_claude(target):
    async with target.client(anthropic.AsyncAnthropic) as client:
        yield client


@pytest.fixture
def http():
    """A plain HTTP client, for what the SDK would not send."""
    with httpx.Client(base_url=GATEWAY, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as client:
        yield client
