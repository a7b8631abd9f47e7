// The official OpenAI SDK for Node against the gateway.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';

import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { GATEWAY, HELLO, KEY, client, upstream } from './support.mjs';

const FAMILY = 'Grüße, 世界! 👩‍👩‍👧‍👦 🏳️‍🌈 ';
const TEN = 'one two three four five six seven eight nine ten';
const openai = client();
const chat = openai.chat.completions;

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

function textOf(chunks) {
  return chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
}

beforeEach(() => upstream.clear());

describe('answers', () => {
  test('a whole answer', async () => {
    const { data, response, request_id } = await chat.create({ model: 'assistant', messages: HELLO }).withResponse();
    assert.equal(data.choices[0].message.content, 'You said: Hello');
    assert(data.usage.total_tokens > 0);
    assert.equal(response.headers.get('x-switchboard-target'), 'mock/upstream-assistant');
    assert.equal(response.headers.get('x-request-id'), request_id);
    assert.equal((await upstream.only()).api_key, 'upstream-key-of-mock');
  });

  test('a streamed answer, without usage unless asked', async () => {
    const asked = { model: 'assistant', messages: HELLO, stream: true };
    const plain = await collect(await chat.create(asked));
    assert.equal(textOf(plain), 'You said: Hello');
    assert(plain.every((chunk) => chunk.choices.length === 1 && !('usage' in chunk)));
    const withUsage = await collect(await chat.create({ ...asked, stream_options: { include_usage: true } }));
    assert.deepEqual(withUsage.at(-1).choices, []);
    assert(withUsage.at(-1).usage.total_tokens > 0);
  });

  test('text is intact however it travels', async () => {
    for (const transport of [{ split: 1 }, { split_random: 7, line_ending: 'crlf', bom: true }, { encoding: 'gzip' }]) {
      const mock = { text: FAMILY.repeat(5), ...transport };
      const stream = await chat.create({ model: 'assistant', messages: HELLO, stream: true, mock });
      assert.equal(textOf(await collect(stream)), FAMILY.repeat(5), JSON.stringify(transport));
    }
  });

  test('a frame of one mebibyte', async () => {
    const mock = { frame_bytes: 1 << 20, text: ' end' };
    const stream = await chat.create({ model: 'assistant', messages: HELLO, stream: true, mock });
    assert.equal(textOf(await collect(stream)).length, (1 << 20) + 4);
  });

  test('parallel tool calls in a stream', async () => {
    const calls = [
      { name: 'get_weather', arguments: { city: 'Zürich' } },
      { name: 'get_time', arguments: { zone: 'Europe/Zurich' } },
    ];
    const stream = chat.stream({ model: 'assistant', messages: HELLO, mock: { tool_calls: calls } });
    const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
    assert.equal(finish_reason, 'tool_calls');
    assert.deepEqual(
      message.tool_calls.map((call) => ({ name: call.function.name, arguments: JSON.parse(call.function.arguments) })),
      calls,
    );
  });

  test('tools are run by the SDK', async () => {
    await upstream.enqueue({ tool_calls: [{ name: 'double', arguments: { number: 21 } }] }, { text: 'done' });
    const seen = [];
    const runner = chat.runTools({
      model: 'assistant',
      messages: HELLO,
      tools: [
        zodFunction({
          name: 'double',
          parameters: z.object({ number: z.number() }),
          function: ({ number }) => {
            seen.push(number);
            return { result: number * 2 };
          },
        }),
      ],
    });
    assert.equal(await runner.finalContent(), 'done');
    assert.deepEqual(seen, [21]);
    const [, second] = await upstream.requests();
    assert.equal(second.body.messages.at(-1).content, '{"result":42}');
  });

  test('a structured output is parsed', async () => {
    const Plan = z.object({ title: z.string(), steps: z.array(z.object({ thought: z.string(), sure: z.boolean() })) });
    const answer = await chat.parse({
      model: 'assistant',
      messages: HELLO,
      response_format: zodResponseFormat(Plan, 'plan'),
    });
    assert.deepEqual(Plan.parse(answer.choices[0].message.parsed), answer.choices[0].message.parsed);
  });

  test('members that nobody knows reach the provider', async () => {
    const strange = { deep: [1, 2.5, null, { ü: '\u0000' }] };
    await chat.create({ model: 'assistant', messages: HELLO, strange });
    assert.deepEqual((await upstream.only()).body.strange, strange);
  });

  test('embeddings', async () => {
    const asked = { model: 'embedder', input: ['one', 'two'] };
    const coded = await openai.embeddings.create(asked);
    const floats = await openai.embeddings.create({ ...asked, encoding_format: 'float' });
    assert.equal(coded.data.length, 2);
    for (const [index, value] of coded.data[1].embedding.entries()) {
      assert(Math.abs(value - floats.data[1].embedding[index]) < 1e-6);
    }
  });

  test('legacy completions', async () => {
    const whole = await openai.completions.create({ model: 'assistant', prompt: 'Hi' });
    assert.equal(whole.choices[0].text, 'You said: Hi');
    const chunks = await collect(await openai.completions.create({ model: 'assistant', prompt: 'Hi', stream: true }));
    assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), 'You said: Hi');
  });

  test('models', async () => {
    const names = (await collect(await openai.models.list())).map((model) => model.id);
    assert(names.includes('assistant') && names.includes('team/assistant'));
    assert.equal((await openai.models.retrieve('team/assistant')).id, 'team/assistant');
  });

  test('the base URL works without /v1', async () => {
    const answer = await client({ baseURL: GATEWAY }).chat.completions.create({ model: 'assistant', messages: HELLO });
    assert.equal(answer.choices[0].message.content, 'You said: Hello');
  });
});

describe('failures', () => {
  const cases = [
    ['a wrong key', OpenAI.AuthenticationError, { apiKey: 'sk-wrong-wrong-wrong' }, {}],
    ['an unknown model', OpenAI.NotFoundError, {}, { model: 'no-such-model' }],
    ['a bad request', OpenAI.BadRequestError, {}, { mock: { status: 400 } }],
    ['a rate limit', OpenAI.RateLimitError, {}, { model: 'limited/node', mock: { status: 429, retry_after: 3 } }],
    ['a server error', OpenAI.InternalServerError, {}, { mock: { status: 500 } }],
    ['an error as first event', OpenAI.InternalServerError, {}, { stream: true, mock: { error_first: true } }],
    ['a reset', OpenAI.InternalServerError, {}, { mock: { reset: 'before_head' } }],
    ['a time-out of its own', OpenAI.APIConnectionTimeoutError, { timeout: 300 }, { mock: { delay: '20s' } }],
  ];
  for (const [name, kind, options, asked] of cases) {
    test(name, async () => {
      const call = client(options).chat.completions.create({ model: 'assistant', messages: HELLO, ...asked });
      await assert.rejects(call, (error) => {
        assert.equal(error.constructor, kind, `${error}`);
        return true;
      });
    });
  }

  test('an exhausted quota is not retried', async () => {
    const call = client({ maxRetries: 4 }).chat.completions.create({ model: 'limited/mock-quota', messages: HELLO });
    await assert.rejects(call, { code: 'insufficient_quota', status: 429 });
    assert.equal((await upstream.requests()).length, 1);
  });

  test('retries and fallbacks are unseen', async () => {
    const { data, response } = await chat.create({ model: 'second-target', messages: HELLO }).withResponse();
    assert.equal(data.choices[0].message.content, 'You said: Hello');
    assert.equal(response.headers.get('x-switchboard-target'), 'spare/upstream-second');
  });

  for (const fault of [{ reset: { after_chunk: 3 } }, { cut_at_byte: 2000 }, { end_after_chunk: 3 }]) {
    test(`a stream that breaks is an error: ${JSON.stringify(fault)}`, async () => {
      // A reset may cost what was sent just before it; with a pause between them, chunks are there when it strikes.
      const mock = { text: TEN, chunk_delay: '10ms', ...fault };
      const stream = await chat.create({ model: 'assistant', messages: HELLO, stream: true, mock });
      let text = '';
      const read = async () => {
        for await (const chunk of stream) text += chunk.choices[0].delta.content ?? '';
      };
      await assert.rejects(read(), (error) => error instanceof OpenAI.APIError && Boolean(error.code));
      assert(text !== '' && text !== TEN && TEN.startsWith(text));
    });
  }

  test('leaving the loop ends the call upstream', async () => {
    const mock = { chunks: 100_000, chunk_delay: '10ms' };
    for await (const _ of await chat.create({ model: 'assistant', messages: HELLO, stream: true, mock })) break;
    await upstream.waitFor('aborted');
  });

  test('aborting ends the call upstream, streamed or not, before and after its first output', async () => {
    for (const [stream, mock] of [
      [true, { chunks: 100_000, chunk_delay: '10ms' }],
      [true, { hang: true }],
      [false, { hang: true }],
    ]) {
      await upstream.clear();
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 300);
      const read = async () => {
        const asked = { model: 'assistant', messages: HELLO, stream, mock };
        const answer = await chat.create(asked, { signal: controller.signal });
        for await (const _ of answer);
        // The SDK ends an aborted loop without a word.
        throw new OpenAI.APIUserAbortError();
      };
      await assert.rejects(read(), OpenAI.APIUserAbortError);
      await upstream.waitFor('aborted');
    }
  });

  test('the key of the client stays here', async () => {
    await chat.create({ model: 'assistant', messages: HELLO });
    assert(!JSON.stringify(await upstream.requests()).includes(KEY));
  });
});
