"""LangChain's OpenAI classes against the gateway."""

import openai
import pytest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from conftest import GATEWAY, KEY


class City(BaseModel):
    """A city."""

    name: str
    population: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def model(name="assistant", **options):
    return ChatOpenAI(model=name, base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, **options)


def scripted(**behaviour):
    return {"extra_body": {"mock": behaviour}}


def test_invoke():
    answer = model().invoke([SystemMessage("Be brief."), HumanMessage("Hello")])
    assert answer.content == "You said: Hello"
    assert answer.usage_metadata["total_tokens"] > 0


async def test_ainvoke_and_batch():
    assert (await model().ainvoke("Hello")).content == "You said: Hello"
    answers = await model().abatch([f"number {n}" for n in range(8)])
    assert [answer.content for answer in answers] == [f"You said: number {n}" for n in range(8)]


def test_stream():
    chunks = list(model(stream_usage=True).stream("Hello"))
    assert "".join(chunk.content for chunk in chunks) == "You said: Hello"
    assert sum(chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata) > 0


async def test_astream():
    assert "".join([chunk.content async for chunk in model().astream("Hello")]) == "You said: Hello"


def test_bind_tools():
    calls = [{"name": "get_weather", "arguments": {"city": "Oslo"}}, {"name": "get_weather", "arguments": {"city": "Rom"}}]
    bound = model(**scripted(tool_calls=calls)).bind_tools([get_weather])
    answer = bound.invoke("What is the weather?")
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Oslo"}, {"city": "Rom"}]
    whole = None
    for chunk in bound.stream("What is the weather?"):
        whole = chunk if whole is None else whole + chunk
    assert [call["args"] for call in whole.tool_calls] == [{"city": "Oslo"}, {"city": "Rom"}]
    results = [ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
    last = model().bind_tools([get_weather]).invoke([HumanMessage("Weather?"), answer, *results])
    assert last.content == "You said: Weather?"


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(method):
    city = model().with_structured_output(City, method=method).invoke("Name a city.")
    assert isinstance(city, City)


def test_a_stream_that_breaks_is_an_exception():
    broken = model(**scripted(text="a b c d e f", reset={"after_chunk": 2}))
    with pytest.raises(openai.APIError):
        list(broken.stream("Hello"))


def test_embeddings():
    # The default counts tokens with a vocabulary that it would have to download.
    embeddings = OpenAIEmbeddings(
        model="embedder", base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, check_embedding_ctx_length=False
    )
    vectors = embeddings.embed_documents(["one", "two"])
    assert [len(vector) for vector in vectors] == [8, 8]
    assert embeddings.embed_query("one") == vectors[0]
