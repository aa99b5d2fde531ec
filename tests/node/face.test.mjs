// The face of the package as far as it goes without a daemon: configuration, errors, module kinds, worker threads.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { DunnageError, ERROR_NUMBERS, Engine } from '../../bindings-node/dist/index.mjs';

const run = promisify(execFile);
const require = createRequire(import.meta.url);
const packageDir = fileURLToPath(new URL('../../bindings-node', import.meta.url));
const tmp = mkdtempSync(join(tmpdir(), 'dunnage-face-'));
after(() => rmSync(tmp, { recursive: true, force: true }));
mkdirSync(join(tmp, 'node_modules'));
symlinkSync(packageDir, join(tmp, 'node_modules', 'dunnage'));

/** Opening with this configuration fails; resolves with the error. */
async function refused(config) {
  try {
    await (await Engine.open(config)).close();
  } catch (error) {
    assert.ok(error instanceof DunnageError, `${error?.stack}`);
    return error;
  }
  throw new Error('it opened');
}

test('a configuration is refused by name before anything is touched', async () => {
  for (const [config, text] of [
    [{ containerd: { namespce: 'x' } }, 'namespce'],
    [{ data_root: 'relative' }, 'data_root'],
    [{ data_root: 5 }, 'data_root'],
    [{ registry: { parallel_layers: 1000 } }, 'registry.parallel_layers'],
    [{ time_limits: { stop_ms: -1 } }, '-1'],
    [{ default_image: 'BAD' }, 'default_image'],
    [{ timezone: () => 'now' }, 'timezone'],
    [7, 'configuration'],
    [null, 'configuration'],
    [[], 'object'],
  ]) {
    const error = await refused(config);
    assert.equal(error.code, 'INVALID_ARGUMENT', JSON.stringify(config));
    assert.equal(error.operation, 'engine.open');
    const said = [error.message, ...Object.values(error.context)].join(' ');
    // JSON places a wrong type by line and column, not by name.
    assert.ok(said.includes(text) || said.includes('line 1'), `${said} does not say ${text}`);
  }
});

test('a configuration file is named with the place of its typo', async () => {
  const path = join(tmp, 'dunnage.toml');
  writeFileSync(path, 'data_root = "/x"\n[containerd]\nnamespce = "a"\n');
  const error = await refused(path);
  assert.equal(error.code, 'INVALID_ARGUMENT');
  assert.match(error.message, /namespce/);
  assert.match(error.message, /line 3/);
  assert.equal(error.context.path, path);
  assert.equal((await refused(join(tmp, 'none.toml'))).code, 'NOT_FOUND');
});

test('an error has every part, in code, in JSON and printed', async () => {
  const address = join(tmp, 'nowhere.sock');
  const error = await refused({ data_root: join(tmp, 'data'), containerd: { address } });
  assert.equal(error.code, 'UNAVAILABLE');
  assert.equal(error.number, ERROR_NUMBERS.UNAVAILABLE);
  assert.equal(error.operation, 'engine.open');
  assert.equal(error.name, 'DunnageError');
  assert.match(JSON.stringify(error), /nowhere\.sock/);
  assert.deepEqual(Object.keys(JSON.parse(JSON.stringify(error))), ['code', 'number', 'operation', 'message', 'context']);
  assert.match(error.stack, /face\.test\.mjs/, 'the stack leads to the caller');
  assert.throws(() => {
    'use strict';
    error.context.more = 'x';
  }, TypeError);
});

test('every kind has its own number, and none is 0', () => {
  const numbers = Object.values(ERROR_NUMBERS);
  assert.equal(new Set(numbers).size, numbers.length);
  assert.ok(numbers.every((number) => Number.isInteger(number) && number > 0));
});

test('both kinds of modules give the same classes, by the name of the package', async () => {
  const module = join(tmp, 'both.mjs');
  writeFileSync(
    module,
    `import { createRequire } from 'node:module';
     import * as esm from 'dunnage';
     const cjs = createRequire(import.meta.url)('dunnage');
     const names = Object.keys(cjs).filter((name) => name !== 'default').sort();
     const same = names.every((name) => esm[name] === cjs[name]);
     console.log(JSON.stringify({ names, same }));`,
  );
  const { stdout } = await run(process.execPath, [module]);
  const { names, same } = JSON.parse(stdout);
  assert.equal(same, true);
  for (const name of ['DunnageError', 'Engine', 'Exec', 'Fs', 'Images', 'Operation', 'Process', 'Workspace']) {
    assert.ok(names.includes(name), name);
  }
  await assert.rejects(run(process.execPath, ['-e', "require('dunnage/dist/native.js')"], { cwd: tmp }), /NOT_EXPORTED/);
});

test('worker threads load the addon side by side, and are ended in the midst of a call', async () => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { Engine } = require(workerData.face);
    Engine.open(workerData.config).catch((error) => parentPort.postMessage(error.code));`;
  const face = require.resolve('../../bindings-node/dist/index.js');
  const config = { data_root: join(tmp, 'data'), containerd: { address: join(tmp, 'nowhere.sock') } };
  const workers = Array.from({ length: 6 }, () => new Worker(source, { eval: true, workerData: { face, config } }));
  const answers = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0]));
  assert.deepEqual(new Set(answers), new Set(['UNAVAILABLE']));
  const endless = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { Engine } = require(workerData.face);
    for (let n = 0; n < 50; n += 1) Engine.open(workerData.config).catch(() => undefined);
    parentPort.postMessage('begun');`;
  for (let n = 0; n < 5; n += 1) {
    const worker = new Worker(endless, { eval: true, workerData: { face, config } });
    await once(worker, 'message');
    await worker.terminate();
  }
});

test('a process that loaded the package ends by itself, and at once when told', async () => {
  const open = `require('dunnage').Engine.open({ data_root: '${tmp}/data', containerd: { address: '/no/sock' } })`;
  const calm = await run(process.execPath, ['-e', `${open}.catch((error) => console.log(error.code))`], { cwd: tmp });
  assert.equal(calm.stdout, 'UNAVAILABLE\n');
  await run(process.execPath, ['-e', `${open}; process.exit(0)`], { cwd: tmp });
});
