// The official Anthropic SDK for Node against whoever speaks its format.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';

import { HELLO, MESSAGES_TARGETS, upstream } from './support.mjs';

const FAMILY = 'Grüße, 世界! 👩‍👩‍👧‍👦 🏳️‍🌈 ';
const TEN = 'one two three four five six seven eight nine ten';
const WEATHER = {
  name: 'get_weather',
  input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const CALLS = [
  { name: 'get_weather', arguments: { city: 'Zürich 🏔️' } },
  { name: 'get_time', arguments: { zone: 'Europe/Zurich', deep: [1, { x: '"' }] } },
];

beforeEach(() => upstream.clear());

for (const { name, baseURL, apiKey, model } of MESSAGES_TARGETS) {
  const client = (options = {}) => new Anthropic({ baseURL, apiKey, maxRetries: 0, timeout: 30_000, ...options });
  const { messages } = client();
  const asked = (mock, more = {}) => ({ model, max_tokens: 1000, messages: HELLO, ...more, ...(mock && { mock }) });
  const isMock = name === 'mock';

  describe(`messages of the ${name}`, () => {
    test('a whole message', async () => {
      const { data, request_id } = await messages.create(asked()).withResponse();
      assert.equal(data.content[0].text, 'You said: Hello');
      assert.equal(data.stop_reason, 'end_turn');
      assert(data.usage.input_tokens > 0 && request_id);
    });

    for (const transport of [{}, { split: 3 }, { split_random: 7 }, { encoding: 'br' }, { line_ending: 'crlf' }]) {
      test(`a streamed message: ${JSON.stringify(transport)}`, async () => {
        const usage = { prompt_tokens: 100, cached_tokens: 60, completion_tokens: 40 };
        const stream = messages.stream(asked({ text: FAMILY, usage, ...transport }));
        let text = '';
        stream.on('text', (piece) => (text += piece));
        const message = await stream.finalMessage();
        assert.equal(text, FAMILY);
        assert.equal(message.content[0].text, FAMILY);
        assert.equal(message.stop_reason, 'end_turn');
        const { input_tokens, cache_read_input_tokens, output_tokens } = message.usage;
        assert.deepEqual([input_tokens, cache_read_input_tokens, output_tokens], [40, 60, 40]);
      });
    }

    test('thinking with its signature', async () => {
      const mock = { reasoning: 'Let me think.', signature: 'c2lnbmVk', redacted_reasoning: 'ZGF0YQ==', text: 'So.' };
      const content = [
        { type: 'redacted_thinking', data: 'ZGF0YQ==' },
        { type: 'thinking', thinking: 'Let me think.', signature: 'c2lnbmVk' },
        { type: 'text', text: 'So.' },
      ];
      const plain = (message) => JSON.parse(JSON.stringify(message.content));
      assert.deepEqual(plain(await messages.create(asked(mock))), content);
      assert.deepEqual(plain(await messages.stream(asked(mock)).finalMessage()), content);
    });

    test('parallel tool calls, whole and streamed', async () => {
      const request = asked({ tool_calls: CALLS }, { tools: [WEATHER] });
      for (const message of [await messages.create(request), await messages.stream(request).finalMessage()]) {
        assert.equal(message.stop_reason, 'tool_use');
        const calls = message.content.map(({ name: called, input }) => ({ name: called, arguments: input }));
        assert.deepEqual(calls, CALLS);
        assert.equal(new Set(message.content.map((call) => call.id)).size, 2);
      }
    });

    test('tokens are counted', async () => {
      const { input_tokens } = await messages.countTokens({ model, messages: HELLO });
      assert(input_tokens > 0);
    });

    const statuses = [
      [400, Anthropic.BadRequestError, 'invalid_request_error'],
      [404, Anthropic.NotFoundError, 'not_found_error'],
      [429, Anthropic.RateLimitError, 'rate_limit_error'],
      [500, Anthropic.InternalServerError, 'api_error'],
      [529, Anthropic.InternalServerError, 'overloaded_error'],
    ];
    if (isMock) {
      statuses.push([401, Anthropic.AuthenticationError, 'authentication_error']);
      statuses.push([403, Anthropic.PermissionDeniedError, 'permission_error']);
    }
    for (const [status, kind, type] of statuses) {
      test(`the status ${status} is an exception`, async () => {
        for (const stream of [false, true]) {
          await assert.rejects(messages.create(asked({ status }, { stream })), (error) => {
            assert(error instanceof kind, `${error}`);
            assert.equal(error.status, status);
            assert.equal(error.error.error.type, type);
            return true;
          });
        }
      });
    }

    for (const fault of [{ reset: { after_chunk: 3 } }, { cut_at_byte: 1200 }, { error_after_chunks: 3 }]) {
      test(`a stream that breaks is an error: ${JSON.stringify(fault)}`, async () => {
        let text = '';
        const read = async () => {
          const stream = await messages.create(asked({ text: TEN, chunk_delay: '10ms', ...fault }, { stream: true }));
          for await (const event of stream) {
            assert.notEqual(event.type, 'message_stop');
            text += event.delta?.text ?? '';
          }
        };
        await assert.rejects(read());
        assert(text !== '' && text !== TEN && TEN.startsWith(text));
      });
    }

    test('leaving the loop ends the call', async () => {
      const mock = { chunks: 100_000, chunk_delay: '10ms' };
      for await (const _ of await messages.create(asked(mock, { stream: true }))) break;
      await upstream.waitFor('aborted');
    });
  });
}
