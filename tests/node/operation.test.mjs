// The handle of an operation, without a daemon: its events are fed by the test.
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { test } from 'node:test';
import { DunnageError, Operation } from '../../bindings-node/dist/index.mjs';

/** An operation whose events and end the test decides. */
function operation(onEvent) {
  const control = { cancelled: 0 };
  const handle = new Operation(
    onEvent,
    (watch, emit) =>
      new Promise((resolve, reject) => {
        watch({ cancel: () => (control.cancelled += 1) });
        let elapsed = 0;
        control.emit = (type, fields = {}) =>
          emit(JSON.stringify({ type, operation_id: 'op-1', elapsed_ms: (elapsed += 1), ...fields }));
        control.resolve = resolve;
        control.reject = reject;
      }),
  );
  return { handle, control };
}

const types = async (iterable) => {
  const seen = [];
  for await (const event of iterable) {
    seen.push(event.type);
  }
  return seen;
};

test('it is a promise of its result and an iteration of its events', async () => {
  const { handle, control } = operation();
  assert.equal(handle.status, 'running');
  assert.equal(handle.id, undefined);
  const seen = types(handle);
  control.emit('creating');
  assert.equal(handle.id, 'op-1');
  await new Promise(setImmediate);
  control.emit('starting');
  control.emit('complete');
  control.resolve(7);
  assert.deepEqual(await seen, ['creating', 'starting', 'complete']);
  assert.equal(await handle, 7);
  assert.equal(handle.status, 'succeeded');
  assert.deepEqual(await Promise.all([handle, handle.finally(() => undefined)]), [7, 7]);
});

test('a late or slow reader gets the steps and the newest progress', async () => {
  const { handle, control } = operation();
  control.emit('pulling');
  for (let bytes = 1; bytes <= 1000; bytes += 1) {
    control.emit('pull_progress', { bytes });
  }
  control.emit('creating');
  control.emit('complete');
  control.resolve();
  await handle;
  const events = [];
  for await (const event of handle) {
    events.push(event);
  }
  assert.deepEqual(
    events.map((event) => [event.type, event.bytes]),
    [
      ['pulling', undefined],
      ['pull_progress', 1000],
      ['creating', undefined],
      ['complete', undefined],
    ],
  );
  assert.equal((await types(handle)).length, 4, 'a second reader sees them all too');
});

test('an iteration throws the failure after the last event, once, and nothing is unhandled', async () => {
  const unhandled = [];
  const listen = (reason) => unhandled.push(reason);
  process.on('unhandledRejection', listen);
  const { handle, control } = operation();
  const reader = handle[Symbol.asyncIterator]();
  control.emit('error', { code: 'NOT_FOUND' });
  control.reject(new DunnageError('NOT_FOUND', 'no such image'));
  assert.equal((await reader.next()).value.type, 'error');
  await assert.rejects(reader.next(), { code: 'NOT_FOUND' });
  assert.deepEqual(await reader.next(), { done: true, value: undefined });
  await new Promise(setImmediate);
  process.off('unhandledRejection', listen);
  assert.deepEqual(unhandled, []);
  assert.equal(handle.status, 'failed');
});

test('leaving an iteration early cancels nothing', async () => {
  const { handle, control } = operation();
  control.emit('creating');
  for await (const event of handle) {
    assert.equal(event.type, 'creating');
    break;
  }
  assert.equal(control.cancelled, 0);
  control.emit('complete');
  control.resolve('done');
  assert.equal(await handle, 'done');
});

test('cancel goes to the call, as often as it is asked', async () => {
  const { handle, control } = operation();
  handle.cancel();
  handle.cancel();
  assert.equal(control.cancelled, 2);
  control.reject(new DunnageError('CANCELLED', 'cancelled'));
  await assert.rejects(handle, { code: 'CANCELLED' });
  assert.equal(handle.status, 'cancelled');
});

test('a callback that throws is warned of once and not called again', async () => {
  for (const fault of [
    () => {
      throw new Error('my fault');
    },
    async () => {
      throw new Error('my fault');
    },
  ]) {
    let calls = 0;
    const { handle, control } = operation(() => {
      calls += 1;
      return fault();
    });
    const warned = once(process, 'warning');
    control.emit('creating');
    const [warning] = await warned;
    assert.equal(warning.name, 'DunnageWarning');
    assert.match(warning.message, /my fault/);
    assert.equal(warning.cause.message, 'my fault');
    control.emit('complete');
    control.resolve('fine');
    assert.equal(await handle, 'fine');
    assert.equal(calls, 1);
  }
});

test('a callback runs in the asynchronous context of its caller', async () => {
  const storage = new AsyncLocalStorage();
  const seen = [];
  const { handle, control } = storage.run('request 7', () => operation(() => seen.push(storage.getStore())));
  control.emit('complete');
  control.resolve();
  await handle;
  assert.deepEqual(seen, ['request 7']);
});
