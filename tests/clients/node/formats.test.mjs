// Every client against providers of both formats, whole and streamed: each test is written once, and the mock's record of
// what it was sent is the second witness. `../python/test_formats.py` tries more of what a request can hold.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';

import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import Anthropic from '@anthropic-ai/sdk';
import { APICallError, generateText, jsonSchema, streamText, tool } from 'ai';
import OpenAI from 'openai';

import { GATEWAY, HELLO, KEY, upstream } from './support.mjs';

const PROVIDERS = { openai: 'openai/gpt-5.5', anthropic: 'claude/claude-opus-4-8' };
const FAMILY = 'Grüße, 世界! 👩‍👩‍👧‍👦 🏳️‍🌈 ';
const TEN = 'one two three four five six seven eight nine ten';
const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const CALLS = [
  { id: 'call_a', name: 'weather', arguments: { city: 'Zürich 🏔️' } },
  { id: 'call_b', name: 'weather', arguments: { city: 'a "quoted" \\ city' } },
];
const SCHEMA = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
};
const read = (calls) => calls.map(({ id, name, input }) => ({ id, name, arguments: input }));

/** The official SDK for chat completions. `ask` gives what the client understood, and the turn as it sends it back. */
const openai = {
  name: 'openai',
  sdk: new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, maxRetries: 0, timeout: 30_000 }),

  async ask({ model, stream, history = [], system, picture, tools }) {
    const content = [{ type: 'text', text: 'Hello' }];
    if (picture) content.push({ type: 'image_url', image_url: { url: `data:image/png;base64,${PIXEL}` } });
    const messages = [{ role: 'user', content: picture ? content : 'Hello' }, ...history.flat()];
    if (system) messages.unshift({ role: 'system', content: system });
    const asked = { model, messages, reasoning_effort: 'low' };
    if (tools) asked.tools = [{ type: 'function', function: { name: 'weather', parameters: SCHEMA } }];
    const { completions } = this.sdk.chat;
    const completion = stream
      ? await completions.stream({ ...asked, stream_options: { include_usage: true } }).finalChatCompletion()
      : await completions.create(asked);
    const { message, finish_reason: reason } = completion.choices[0];
    const usage = completion.usage;
    const calls = (message.tool_calls ?? []).map(({ id, function: called }) => ({
      id,
      name: called.name,
      input: JSON.parse(called.arguments),
    }));
    return {
      text: message.content ?? '',
      calls: read(calls),
      reason: { stop: 'end', tool_calls: 'tools', length: 'length', content_filter: 'refusal' }[reason],
      usage: [usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens],
      // Standard members only.
      turn: { role: 'assistant', content: message.content, ...(message.tool_calls && { tool_calls: message.tool_calls }) },
    };
  },

  results: (calls) => calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: `result of ${id}` })),
  status: (error) => (error instanceof OpenAI.APIError ? error.status : undefined),
};

/** The official SDK for messages. */
const anthropic = {
  name: '@anthropic-ai/sdk',
  sdk: new Anthropic({ baseURL: GATEWAY, apiKey: KEY, maxRetries: 0, timeout: 30_000 }),

  async ask({ model, stream, history = [], system, picture, tools }) {
    const content = [{ type: 'text', text: 'Hello' }];
    if (picture) content.push({ type: 'image', source: { type: 'base64', media_type: 'image/png', data: PIXEL } });
    const asked = { model, max_tokens: 4000, messages: [{ role: 'user', content }, ...history.flat()] };
    Object.assign(asked, { thinking: { type: 'adaptive' }, output_config: { effort: 'low' } });
    if (system) asked.system = system;
    if (tools) asked.tools = [{ name: 'weather', input_schema: SCHEMA }];
    const { messages } = this.sdk;
    const message = stream ? await messages.stream(asked).finalMessage() : await messages.create(asked);
    const { usage } = message;
    const cached = usage.cache_read_input_tokens ?? 0;
    const { content: blocks } = JSON.parse(JSON.stringify(message));
    return {
      text: blocks.filter(({ type }) => type === 'text').map(({ text }) => text).join(''),
      calls: read(blocks.filter(({ type }) => type === 'tool_use')),
      reason: { end_turn: 'end', tool_use: 'tools', max_tokens: 'length', refusal: 'refusal' }[message.stop_reason],
      usage: [usage.input_tokens + cached, cached, usage.output_tokens],
      turn: { role: 'assistant', content: blocks },
    };
  },

  results: (calls) => [
    {
      role: 'user',
      content: calls.map(({ id }) => ({ type: 'tool_result', tool_use_id: id, content: `result of ${id}` })),
    },
  ],
  status: (error) => (error instanceof Anthropic.APIError ? error.status : undefined),
};

/** The Vercel AI SDK with one of its providers. */
function vercel(name, chat, providerOptions) {
  const reasons = { stop: 'end', 'tool-calls': 'tools', length: 'length', 'content-filter': 'refusal' };
  return {
    name,
    async ask({ model, stream, history = [], system, picture, tools }) {
      const content = [{ type: 'text', text: 'Hello' }];
      if (picture) content.push({ type: 'file', data: Buffer.from(PIXEL, 'base64'), mediaType: 'image/png' });
      const messages = [{ role: 'user', content }, ...history.flat()];
      const asked = { model: chat(model), messages, maxRetries: 0, providerOptions };
      if (system) asked.instructions = system;
      if (tools) asked.tools = { weather: tool({ inputSchema: jsonSchema(SCHEMA) }) };
      const result = stream ? await streamed(asked) : await generateText(asked);
      const usage = await result.usage;
      const calls = await result.toolCalls;
      return {
        text: await result.text,
        calls: calls.map(({ toolCallId, toolName, input }) => ({ id: toolCallId, name: toolName, arguments: input })),
        reason: reasons[await result.finishReason],
        usage: [usage.inputTokens, usage.inputTokenDetails.cacheReadTokens ?? 0, usage.outputTokens],
        turn: (await result.response).messages,
      };
    },
    results: (calls) => [
      {
        role: 'tool',
        content: calls.map(({ id, name: toolName }) => ({
          type: 'tool-result',
          toolCallId: id,
          toolName,
          output: { type: 'text', value: `result of ${id}` },
        })),
      },
    ],
    status: (error) => (APICallError.isInstance(error) ? error.statusCode : undefined),
  };
}

/** A stream read to its end; an error in it is thrown. */
async function streamed(asked) {
  const result = streamText({ ...asked, onError: () => {} });
  let failure;
  for await (const part of result.fullStream) if (part.type === 'error') failure = part.error;
  if (failure) throw failure;
  return result;
}

const aiOpenAI = createOpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY });
const aiAnthropic = createAnthropic({ baseURL: `${GATEWAY}/v1`, apiKey: KEY });
const clients = [
  openai,
  anthropic,
  vercel('@ai-sdk/openai', (model) => aiOpenAI.chat(model), { openai: { reasoningEffort: 'low' } }),
  vercel('@ai-sdk/anthropic', (model) => aiAnthropic(model), {
    anthropic: { thinking: { type: 'adaptive' }, effort: 'low' },
  }),
];

/** What the last request said to the mock: texts, pictures, calls and results in their order. */
async function said() {
  const { path, body } = (await upstream.requests()).at(-1);
  const found = [];
  const note = (role, part) => {
    if (typeof part === 'string') found.push([role, part]);
    else if (part.type === 'text') found.push([role, part.text]);
    else if (part.type === 'image') found.push([role, 'picture', part.source.data]);
    else if (part.type === 'image_url') found.push([role, 'picture', part.image_url.url.split(',')[1]]);
    else if (part.type === 'tool_use') found.push(['call', part.id, part.input]);
    else if (part.type === 'tool_result') found.push(['result', part.tool_use_id, text(part.content)]);
    else found.push([part.type, part.thinking ?? part.data, part.signature]);
  };
  const text = (content) => (typeof content === 'string' ? content : content.map((part) => part.text).join(''));
  const all = (content) => (typeof content === 'string' ? [content] : (content ?? []));
  if (path.startsWith('/v1/messages')) all(body.system).forEach((part) => note('system', part));
  for (const { role, content, tool_calls: calls = [], tool_call_id: id } of body.messages) {
    if (role === 'tool') found.push(['result', id, text(content)]);
    else all(content).forEach((part) => note(role === 'developer' ? 'system' : role, part));
    for (const call of calls) found.push(['call', call.id, JSON.parse(call.function.arguments)]);
  }
  return found;
}

beforeEach(() => upstream.clear());

for (const client of clients) {
  for (const [provider, model] of Object.entries(PROVIDERS)) {
    for (const stream of [false, true]) {
      const ask = (more = {}) => client.ask({ model, stream, ...more });

      describe(`${client.name} over ${provider}, ${stream ? 'streamed' : 'whole'}`, () => {
        test('a text, a picture and the instructions', async () => {
          const usage = { prompt_tokens: 100, cached_tokens: 60, completion_tokens: 40 };
          await upstream.say({ text: FAMILY, usage, split: 5 });
          const answer = await ask({ system: 'Be brief.', picture: true });
          assert.deepEqual([answer.text, answer.reason, answer.usage], [FAMILY, 'end', [100, 60, 40]]);
          assert.deepEqual(await said(), [['system', 'Be brief.'], ['user', 'Hello'], ['user', 'picture', PIXEL]]);
        });

        test('a loop of parallel tools, with the thinking before it', async () => {
          await upstream.say({ reasoning: 'Both.', signature: 'c2lnbmVk', text: 'I look.', tool_calls: CALLS });
          const answer = await ask({ tools: true });
          assert.deepEqual([answer.text, answer.calls, answer.reason], ['I look.', CALLS, 'tools']);
          await upstream.say({ text: 'Done.' });
          const history = [answer.turn, client.results(answer.calls)];
          assert.equal((await ask({ tools: true, history })).text, 'Done.');
          const calls = CALLS.map((call) => ['call', call.id, call.arguments]);
          const results = CALLS.map(({ id }) => ['result', id, `result of ${id}`]);
          const thinking = provider === 'anthropic' ? [['thinking', 'Both.', 'c2lnbmVk']] : [];
          assert.deepEqual(await said(), [['user', 'Hello'], ...thinking, ['assistant', 'I look.'], ...calls, ...results]);
        });

        test('an answer that is too long, and one that is refused', async () => {
          await upstream.say({ text: 'one two', finish_reason: 'length' });
          assert.equal((await ask()).reason, 'length');
          await upstream.say({ text: 'I cannot.', finish_reason: provider === 'openai' ? 'content_filter' : 'refusal' });
          assert.equal((await ask()).reason, 'refusal');
        });

        for (const status of [400, 404, 500, 529]) {
          test(`the status ${status}`, async () => {
            await upstream.say({ status, message: 'As scripted.' });
            const refused = `refused-${provider}/node-${status}`;
            await assert.rejects(ask({ model: refused }), (error) => {
              // OpenAI's clients know no 529.
              const shown = status === 529 && provider === 'anthropic' && client.name.includes('openai') ? 503 : status;
              assert.equal(client.status(error), shown, `${error}`);
              assert.match(error.message, /As scripted/);
              return true;
            });
          });
        }

        if (!stream) return;
        for (const fault of [
          { reset: { after_chunk: 3 } },
          { cut_at_byte: 1300 },
          { end_after_chunk: 3 },
          { error_after_chunks: 3 },
        ]) {
          test(`a stream that breaks: ${JSON.stringify(fault)}`, async () => {
            for (const content of [{ text: TEN }, { text: 'I look.', tool_calls: CALLS }]) {
              await upstream.say({ ...content, chunk_delay: '10ms', ...fault });
              await assert.rejects(ask({ tools: true }), (error) => !(error instanceof assert.AssertionError));
            }
          });
        }
      });
    }
  }
}

test('tokens are counted, and the old spelling of the limit is known', async () => {
  for (const model of Object.values(PROVIDERS)) {
    const { input_tokens } = await anthropic.sdk.messages.countTokens({ model, messages: HELLO });
    assert(input_tokens > 0);
    await openai.sdk.chat.completions.create({ model, messages: HELLO, max_tokens: 77 });
    const { body } = (await upstream.requests()).at(-1);
    assert.equal(body.max_tokens ?? body.max_completion_tokens, 77);
  }
});
