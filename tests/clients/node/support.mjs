// What the tests share: clients of a running gateway and of the mock, and a view of what the mock, its upstream, was
// sent. `../run.sh` starts both and names them in the environment.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import OpenAI from 'openai';

export const GATEWAY = process.env.CLIENTS_GATEWAY;
export const KEY = 'sk-clients-everything';
export const HELLO = [{ role: 'user', content: 'Hello' }];

const MOCK = process.env.CLIENTS_MOCK_ROOT;
assert(GATEWAY && MOCK, 'CLIENTS_GATEWAY and CLIENTS_MOCK_ROOT are not set; run tests/clients/run.sh');

/** Who answers in Anthropic's format: the mock itself is among them, so that it is known to be right. */
export const MESSAGES_TARGETS = [
  { name: 'mock', baseURL: MOCK, apiKey: 'upstream-key-of-mock', model: 'upstream-assistant' },
  { name: 'gateway', baseURL: GATEWAY, apiKey: KEY, model: 'claude/upstream-assistant' },
];

export function client(options = {}) {
  return new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, maxRetries: 0, timeout: 30_000, ...options });
}

async function control(method, path, body) {
  const response = await fetch(`${MOCK}/_mock${path}`, { method, body: body && JSON.stringify(body) });
  assert.equal(response.status, 200, await response.clone().text());
  return response.json();
}

/** The mock, through its control API. */
export const upstream = {
  async clear() {
    await control('DELETE', '');
    await this.say({});
  },

  /** Scripts every answer from now on, whatever becomes of the request on its way. */
  say: (script) => control('PUT', '/default', script),
  enqueue: (...scripts) => control('PUT', '/script', scripts),

  /** What it was sent, with the bodies read. */
  async requests() {
    const requests = await control('GET', '/requests');
    return requests.map((request) => ({ ...request, body: request.body && JSON.parse(request.body) }));
  },

  async only() {
    const requests = await this.requests();
    assert.equal(requests.length, 1);
    return requests[0];
  },

  /** Waits until the one request that was sent has come to `state`. */
  async waitFor(state) {
    let states;
    for (let tries = 0; tries < 250; tries += 1) {
      states = (await this.requests()).map((request) => request.outcome.state);
      if (states.length === 1 && states[0] === state) return;
      await sleep(20);
    }
    assert.fail(`the mock saw [${states}], not one request that is ${state}`);
  },
};
