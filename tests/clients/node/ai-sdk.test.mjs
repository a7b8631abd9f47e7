// The Vercel AI SDK against the gateway, with its OpenAI provider and its provider for OpenAI-compatible services.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';

import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, Output, embedMany, generateObject, generateText, isStepCount, streamText, tool } from 'ai';
import { z } from 'zod';

import { GATEWAY, KEY, upstream } from './support.mjs';

const official = createOpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY });
const compatible = createOpenAICompatible({
  name: 'switchboard',
  baseURL: `${GATEWAY}/v1`,
  apiKey: KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const providers = {
  openai: { chat: (name) => official.chat(name), embedding: (name) => official.embedding(name) },
  'openai-compatible': { chat: (name) => compatible(name), embedding: (name) => compatible.embeddingModel(name) },
};
const Plan = z.object({ title: z.string(), steps: z.array(z.string()) });
const silent = { onError: () => {} };

beforeEach(() => upstream.clear());

for (const [name, provider] of Object.entries(providers)) {
  const model = provider.chat('assistant');

  describe(name, () => {
    test('generateText', async () => {
      const { text, usage, finishReason } = await generateText({ model, prompt: 'Hello' });
      assert.equal(text, 'You said: Hello');
      assert.equal(finishReason, 'stop');
      assert(usage.totalTokens > 0);
    });

    test('streamText', async () => {
      await upstream.enqueue({ text: 'Grüße 👩‍👩‍👧‍👦 world', split: 1 });
      const result = streamText({ model, prompt: 'Hello' });
      let text = '';
      for await (const piece of result.textStream) text += piece;
      assert.equal(text, 'Grüße 👩‍👩‍👧‍👦 world');
      assert.equal(await result.finishReason, 'stop');
      assert((await result.usage).totalTokens > 0);
    });

    test('tools, streamed and whole, over two steps', async () => {
      const double = tool({
        description: 'Doubles a number.',
        inputSchema: z.object({ number: z.number() }),
        execute: ({ number }) => number * 2,
      });
      const asked = { model, prompt: 'Hello', tools: { double }, stopWhen: isStepCount(3) };
      const scripts = [
        { tool_calls: [4, 5].map((number) => ({ name: 'double', arguments: { number } })) },
        { text: 'Eight and ten.' },
      ];
      await upstream.enqueue(...scripts);
      const whole = await generateText(asked);
      assert.equal(whole.text, 'Eight and ten.');
      assert.deepEqual(whole.steps[0].toolResults.map((result) => result.output), [8, 10]);
      await upstream.enqueue(...scripts);
      const streamed = streamText(asked);
      assert.equal(await streamed.text, 'Eight and ten.');
      assert.deepEqual((await streamed.steps)[0].toolResults.map((result) => result.output), [8, 10]);
    });

    test('generateObject and Output.object', async () => {
      const { object } = await generateObject({ model, schema: Plan, prompt: 'Plan.' });
      assert.deepEqual(Plan.parse(object), object);
      const { output } = await generateText({ model, output: Output.object({ schema: Plan }), prompt: 'Plan.' });
      assert.deepEqual(Plan.parse(output), output);
      assert.equal((await upstream.requests())[0].body.response_format.type, 'json_schema');
    });

    test('embedMany', async () => {
      const { embeddings, usage } = await embedMany({ model: provider.embedding('embedder'), values: ['one', 'two'] });
      assert.deepEqual(embeddings.map((embedding) => embedding.length), [8, 8]);
      assert(usage.tokens > 0);
    });

    test('errors keep their status and words, and say whether to try again', async () => {
      const asked = { prompt: 'Hello', maxRetries: 0 };
      await assert.rejects(generateText({ ...asked, model: provider.chat('no-such-model') }), (error) => {
        assert(APICallError.isInstance(error), `${error}`);
        assert.deepEqual([error.statusCode, error.isRetryable], [404, false]);
        assert.match(error.message, /no-such-model/);
        return true;
      });
      await assert.rejects(generateText({ ...asked, model: provider.chat('mock/mock-status-503') }), (error) => {
        assert.deepEqual([error.statusCode, error.isRetryable], [503, true]);
        return true;
      });
    });

    for (const fault of [{ reset: { after_chunk: 3 } }, { cut_at_byte: 2000 }, { end_after_chunk: 3 }]) {
      test(`a stream that breaks is an error: ${JSON.stringify(fault)}`, async () => {
        // A reset may cost what was sent just before it; with a pause between them, chunks are there when it strikes.
        await upstream.enqueue({ text: 'one two three four five six seven eight nine ten', chunk_delay: '10ms', ...fault });
        const errors = [];
        const finished = [];
        const result = streamText({ model, prompt: 'Hello', ...silent });
        for await (const part of result.fullStream) {
          if (part.type === 'error') errors.push(part.error);
          if (part.type === 'finish') finished.push(part.finishReason);
        }
        assert.equal(errors.length, 1);
        assert(!finished.includes('stop'), 'not a clean end');
      });
    }

    test('aborting ends the call upstream', async () => {
      await upstream.enqueue({ chunks: 100_000, chunk_delay: '10ms' });
      const controller = new AbortController();
      const result = streamText({ model, prompt: 'Hello', abortSignal: controller.signal, ...silent });
      let pieces = 0;
      for await (const part of result.fullStream) {
        if (part.type === 'text-delta' && ++pieces === 3) controller.abort();
      }
      assert(pieces >= 3);
      await upstream.waitFor('aborted');
    });

    test('retries and fallbacks are unseen', async () => {
      const { text, response } = await generateText({ model: provider.chat('second-target'), prompt: 'Hello', maxRetries: 0 });
      assert.equal(text, 'You said: Hello');
      assert.equal(response.headers['x-switchboard-target'], 'spare/upstream-second');
    });
  });
}
