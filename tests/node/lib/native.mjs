// The behaviour cases that each language writes by hand. Each gets the open engine, its configuration, the environment,
// a directory of its own, `fresh()` for workspace ids, and `named` for those to delete; it resolves with why it was
// skipped, or with nothing.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { DunnageError, Engine } from '../../../bindings-node/dist/index.mjs';
import { exportStream, importStream } from './data.mjs';
import { eventsFault } from './match.mjs';
import { session, terminal } from './sessions.mjs';

/** The package, for worker threads. */
const face = fileURLToPath(new URL('../../../bindings-node/dist/index.js', import.meta.url));

/** A handle of a fresh workspace that the driver deletes. */
function handle({ engine, fresh, named }) {
  const workspace = engine.workspace(fresh());
  named.add(workspace.id);
  return workspace;
}

/** A fresh workspace that runs. */
async function running(context, options = {}) {
  const workspace = handle(context);
  await workspace.create({ image: context.env.images.busybox, ...options });
  return workspace;
}

const code = (expected) => (error) => {
  assert.ok(error instanceof DunnageError, `${error}`);
  assert.equal(error.code, expected, error.message);
  return true;
};

async function eventually(what, check) {
  const end = Date.now() + 10_000;
  while (!(await check())) {
    assert.ok(Date.now() < end, `${what} did not come about in 10 s`);
    await sleep(20);
  }
}

export const native = {
  'native.bad_arguments': async ({ engine, fresh }) => {
    const workspace = engine.workspace(fresh());
    const refused = code('INVALID_ARGUMENT');
    for (const id of ['', 'a/b', '../x', 'ü', 'a\0b', null, undefined, 7, {}]) {
      assert.throws(() => engine.workspace(id), refused, String(id));
    }
    const circle = {};
    circle.self = circle;
    for (const options of [
      { colour: 'red' },
      { image: 5 },
      { env: 'A=b' },
      { env: { A: () => 1 } },
      { limits: { cpus: Number.NaN } },
      { limits: { memory_bytes: 10n } },
      { labels: circle },
      { pull_policy: 'sometimes' },
      { timeLimitMs: -1 },
      { timeLimitMs: 'soon' },
      { signal: 'stop' },
      { onEvent: 'print' },
      null,
      [],
      'image',
    ]) {
      await assert.rejects(async () => workspace.create(options), refused, JSON.stringify(String(options)));
    }
    await assert.rejects(() => engine.health({ onEvent: () => undefined }), refused);
    await assert.rejects(() => workspace.exec.run('true', { input: 5 }), refused);
    await assert.rejects(() => workspace.exec.run(5), refused);
    await assert.rejects(() => workspace.fs.write('x', { length: 3 }), refused);
    // A lone surrogate is no Unicode: it becomes U+FFFD on the way and never a crash.
    await assert.rejects(() => engine.image.get('a\ud800b'), refused);
  },

  'native.callback_fails': async (context) => {
    const warnings = [];
    const listen = (warning) => warnings.push(warning);
    process.on('warning', listen);
    try {
      for (const onEvent of [
        () => {
          throw new Error('a fault of the host');
        },
        async () => {
          throw new Error('a fault of the host');
        },
      ]) {
        let calls = 0;
        const workspace = handle(context);
        const made = await workspace.create({
          image: context.env.images.busybox,
          onEvent: (event) => {
            calls += 1;
            return onEvent(event);
          },
        });
        assert.equal(made.started, true);
        assert.ok(calls >= 1);
      }
      // Warnings are emitted on the next turn.
      await eventually('the warnings', () => warnings.length === 2);
    } finally {
      process.off('warning', listen);
    }
    for (const warning of warnings) {
      assert.equal(warning.name, 'DunnageWarning');
      assert.match(warning.message, /a fault of the host/);
    }
  },

  'native.callback_sleeps': async (context) => {
    const events = [];
    const cell = new Int32Array(new SharedArrayBuffer(4));
    const workspace = handle(context);
    await workspace.create({
      image: context.env.images.busybox,
      pull_policy: 'always',
      onEvent: (event) => {
        events.push(event);
        // The whole thread sleeps, not only this callback.
        Atomics.wait(cell, 0, 0, 60);
      },
    });
    assert.equal(eventsFault(events, undefined), undefined);
    // A worker thread is ended while its callback sleeps: the operation goes on to its end without it.
    const other = handle(context);
    const source = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { Engine } = require(workerData.face);
      (async () => {
        const engine = await Engine.open(workerData.config);
        await engine.workspace(workerData.id).create({
          image: workerData.image,
          onEvent: () => {
            parentPort.postMessage('sleeping');
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000);
          },
        });
      })();`;
    const worker = new Worker(source, {
      eval: true,
      workerData: { face, config: context.config, id: other.id, image: context.env.images.busybox },
    });
    await once(worker, 'message');
    await worker.terminate();
    await eventually('the workspace', () => other.info().then((info) => info.task_running, () => false));
  },

  'native.callback_calls_back': async (context) => {
    const answers = [];
    const workspace = handle(context);
    await workspace.create({
      image: context.env.images.busybox,
      onEvent: () => {
        answers.push(context.engine.health());
        answers.push(context.engine.list());
      },
    });
    assert.ok(answers.length >= 4);
    await Promise.all(answers);
  },

  'native.cancel': async (context) => {
    const workspace = await running(context);
    const abort = new AbortController();
    const run = workspace.exec.run('sleep 1000', { signal: abort.signal, timeout_ms: 0 });
    setTimeout(() => {
      abort.abort(new Error('enough'));
      abort.abort();
    }, 100);
    await assert.rejects(run, (error) => code('CANCELLED')(error) && error.cause.message === 'enough');
    // A signal that has fired before the call begins touches nothing.
    await assert.rejects(workspace.exec.run('touch /data/never', { signal: abort.signal }), code('CANCELLED'));
    await assert.rejects(workspace.fs.stat('never'), code('NOT_FOUND'));
    // An operation is cancelled by its own method too, also twice, and a fresh id leaves nothing behind.
    const other = handle(context);
    const operation = other.create({ image: context.env.images.busybox });
    operation.cancel();
    operation.cancel();
    await assert.rejects(operation, code('CANCELLED'));
    assert.equal(operation.status, 'cancelled');
    await assert.rejects(other.info(), code('NOT_FOUND'));
  },

  'native.items': async (context) => {
    const second = await Engine.open(context.config);
    // A pull is told too.
    await second.image.pull(context.env.images.busybox);
    const workspace = handle(context);
    const events = second.events({ workspace: workspace.id });
    await events.opened;
    await workspace.create({ image: context.env.images.busybox, start: false });
    await workspace.delete();
    let last = 0;
    for (const kind of ['create', 'delete']) {
      await sleep(100);
      const { value } = await events.next();
      assert.equal(value.kind, kind);
      assert.ok(value.sequence > last);
      last = value.sequence;
    }
    // Left, it has ended; a request that waits is told.
    const waiting = events.next();
    await events.return();
    assert.deepEqual(await waiting, { done: true, value: undefined });
    assert.equal((await events.next()).done, true);
    for await (const event of second.events({ workspace: workspace.id, after: 0 })) {
      assert.equal(event.kind, 'create');
      break;
    }
    const open = second.events();
    const next = open.next();
    await open.opened;
    await second.close();
    assert.equal((await next).done, true);
    await assert.rejects(second.events().next(), code('FAILED_PRECONDITION'));
    // A program whose only open thing is a stream that was unreferenced, or let go, ends.
    const program = `
      const { Engine } = require(${JSON.stringify(face)});
      Engine.open(${JSON.stringify(context.config)}).then(async (engine) => {
        const events = engine.events().unref();
        await events.opened;
        events.next();
        const left = engine.events();
        await left.opened;
        left.next();
        await left.return();
      });`;
    await promisify(execFile)(process.execPath, ['-e', program], { timeout: 60_000 });
  },

  'native.items_cancelled': async (context) => {
    const { engine } = context;
    const abort = new AbortController();
    const events = engine.events({ signal: abort.signal });
    const next = events.next();
    await events.opened;
    const reason = new Error('enough');
    abort.abort(reason);
    await assert.rejects(next, (error) => code('CANCELLED')(error) && error.cause === reason);
    assert.equal((await events.next()).done, true);
    await assert.rejects(engine.events({ signal: abort.signal }).next(), code('CANCELLED'));
    await assert.rejects(engine.events({ onEvent: () => undefined }).next(), code('INVALID_ARGUMENT'));
    await engine.image.pull(context.env.images.busybox);
    const workspace = handle(context);
    const after = engine.events({ workspace: workspace.id });
    await after.opened;
    const consume = async () => {
      for await (const event of after) {
        throw new Error(event.kind);
      }
    };
    const failed = assert.rejects(consume(), { message: 'create' });
    await workspace.create({ image: context.env.images.busybox, start: false });
    await failed;
    assert.equal((await after.next()).done, true);
  },

  'native.many_calls_one_engine': async ({ engine, config }) => {
    await Promise.all(Array.from({ length: 200 }, (_, n) => (n % 2 === 0 ? engine.health() : engine.list())));
    // Worker threads have engines of their own on the same data root.
    const source = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { Engine } = require(workerData.face);
      (async () => {
        const engine = await Engine.open(workerData.config);
        const all = await Promise.all(Array.from({ length: 50 }, () => engine.health()));
        // It is not closed: a worker must end all the same.
        parentPort.postMessage(all.every((health) => health.healthy));
      })();`;
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        const worker = new Worker(source, { eval: true, workerData: { face, config } });
        const [answer] = await once(worker, 'message');
        const [exit] = await once(worker, 'exit');
        assert.deepEqual([answer, exit], [true, 0]);
      }),
    );
  },

  'native.many_calls_one_workspace': async (context) => {
    const workspace = await running(context);
    await Promise.all(
      Array.from({ length: 200 }, async (_, n) => {
        const { stdout, exit_code } = await workspace.exec.run(`cat; echo ${n}; exit ${n % 7}`, { input: `in ${n} ` });
        assert.equal(`${stdout}`, `in ${n} ${n}\n`);
        assert.equal(exit_code, n % 7);
      }),
    );
  },

  'native.twenty_workspaces': async (context) => {
    const workspaces = Array.from({ length: 20 }, () => handle(context));
    const made = await Promise.all(workspaces.map((one) => one.create({ image: context.env.images.busybox })));
    assert.equal(new Set(made.map((result) => result.container_id)).size, 20);
    await Promise.all(
      workspaces.map(async (one) => assert.equal(`${(await one.exec.run('hostname')).stdout}`.trim(), one.id)),
    );
    const gone = await Promise.all(workspaces.map((one) => one.delete({ grace_ms: 0 })));
    assert.ok(gone.every((result) => result.deleted));
  },

  'native.close_while_running': async (context) => {
    const engine = await Engine.open(context.config);
    const workspace = await running({ ...context, engine });
    const other = handle({ ...context, engine });
    const create = other.create({ image: context.env.images.busybox });
    create.catch(() => undefined);
    // Both are begun on threads of the library: without an event, the end may come before the beginning.
    await create[Symbol.asyncIterator]().next();
    await engine.close();
    await create.then(
      (result) => assert.equal(result.started, true),
      (error) => code('CANCELLED')(error),
    );
    await assert.rejects(engine.health(), code('FAILED_PRECONDITION'));
    await assert.rejects(workspace.exec.run('true'), code('FAILED_PRECONDITION'));
    await assert.rejects(other.create(), code('FAILED_PRECONDITION'));
    await engine.close();
    // A process that never closes its engine ends all the same, and says nothing.
    const third = await running(context);
    const source = `
      import { Engine } from '${new URL('../../../bindings-node/dist/index.mjs', import.meta.url)}';
      const engine = await Engine.open(${JSON.stringify(context.config)});
      const { stdout } = await engine.workspace('${third.id}').exec.run('echo here');
      process.stdout.write(stdout);`;
    const child = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', source], { timeout: 20_000 });
    assert.deepEqual([child.stdout, child.stderr], ['here\n', '']);
  },

  'native.process': async (context) => {
    const workspace = await running(context);
    const echo = await workspace.exec.spawn('while read line; do echo "got $line"; echo "saw $line" >&2; done; exit 4');
    assert.ok(echo.pid === undefined || echo.pid > 1);
    echo.stdin.write('one\n');
    // As it comes, and not only at the end.
    const [first] = await once(echo.stdout, 'data');
    assert.equal(`${first}`, 'got one\n');
    echo.stdin.end('two\n');
    const [rest, errors] = await Promise.all([text(echo.stdout), text(echo.stderr)]);
    assert.deepEqual([rest, errors], ['got two\n', 'saw one\nsaw two\n']);
    assert.equal((await echo.exit).exit_code, 4);
    await echo.kill();

    const sleeper = await workspace.exec.spawn('trap "echo bye; exit 7" INT; echo up; while :; do sleep 0.1; done');
    await once(sleeper.stdout, 'data');
    await sleeper.kill('SIGINT');
    assert.match(await text(sleeper.stdout), /bye/);
    assert.equal((await sleeper.exit).exit_code, 7);
    await assert.rejects(sleeper.kill('SIGNOTHING'), code('INVALID_ARGUMENT'));

    const terminal = await workspace.exec.spawn('stty size; read x; stty size', { pty: true, cols: 100, rows: 30 });
    let shown = '';
    terminal.stdout.on('data', (piece) => (shown += piece));
    await eventually('the size', () => shown.includes('30 100'));
    terminal.resize(120, 40);
    terminal.stdin.write('\n');
    await terminal.exit;
    await eventually('the new size', () => shown.includes('40 120'));
    assert.throws(() => terminal.resize(0, 10), code('INVALID_ARGUMENT'));

    // A reader that does not keep up makes the command wait; nothing is lost.
    const much = await workspace.exec.spawn('head -c 20000000 /dev/zero; echo end >&2');
    await sleep(200);
    const held = much.stdout.readableLength;
    assert.ok(held < 2_000_000, `${held} bytes are held for a reader that does not read`);
    let bytes = 0;
    for await (const piece of much.stdout) {
      bytes += piece.length;
    }
    assert.equal(bytes, 20_000_000);
    assert.equal(await text(much.stderr), 'end\n');

    const abort = new AbortController();
    const aborted = await workspace.exec.spawn('sleep 60', { signal: abort.signal });
    abort.abort();
    assert.equal((await aborted.exit).signal, 9);
  },

  'native.process_dropped': async (context) => {
    const workspace = await running(context);
    const look = 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " " | grep -q "sleep 4[2]42"';
    const alive = async () => (await workspace.exec.run(look)).exit_code === 0;
    const process = await workspace.exec.spawn('sleep 4242 & sleep 4242; wait');
    await eventually('the processes', alive);
    await process[Symbol.asyncDispose]();
    await eventually('the end of its process group', async () => !(await alive()));
    assert.equal((await process.exit).signal, 9);
  },

  'native.session': async (context) => session(await running(context), code),

  'native.terminal': async (context) => terminal(await running(context)),

  'data.export_stream': async (context) => exportStream(await running(context), code),

  'data.import_stream': async (context) => importStream(await running(context), code),

  'native.writer_aborted': async (context) => {
    const workspace = await running(context);
    await workspace.fs.write('kept', 'as it was');
    const stream = workspace.fs.createWriteStream('kept');
    await new Promise((resolve, reject) => {
      stream.write(Buffer.alloc(3_000_000), (error) => (error ? reject(error) : resolve()));
    });
    stream.destroy();
    await once(stream, 'close');
    assert.equal(`${await workspace.fs.read('kept')}`, 'as it was');
    const entries = await workspace.fs.list('/data');
    assert.deepEqual(
      entries.entries.map((entry) => entry.name),
      ['kept'],
    );
    const abort = new AbortController();
    const aborted = workspace.fs.createWriteStream('kept', { signal: abort.signal });
    aborted.write('half');
    abort.abort();
    await assert.rejects(once(aborted, 'finish'), { name: 'AbortError' });
    assert.equal(`${await workspace.fs.read('kept')}`, 'as it was');
  },

  'native.no_leaks': async (context) => {
    const count = () => ({
      descriptors: readdirSync('/proc/self/fd').length,
      threads: readdirSync('/proc/self/task').length,
    });
    const round = async () => {
      const engine = await Engine.open(context.config);
      const workspace = handle({ ...context, engine });
      const operation = workspace.create({ image: context.env.images.busybox });
      for await (const event of operation) {
        assert.ok(event.operation_id);
      }
      await workspace.exec.run('true');
      await workspace.fs.write('x', 'y');
      await text(workspace.fs.createReadStream('x'));
      await workspace.delete({ grace_ms: 0 });
      await engine.close();
    };
    // The runtime's threads come and go; the rounds before have brought up all it wants.
    for (let n = 0; n < 3; n += 1) {
      await round();
    }
    await sleep(300);
    const before = count();
    for (let n = 0; n < 6; n += 1) {
      await round();
    }
    await eventually('the descriptors', () => count().descriptors <= before.descriptors + 2);
    // Idle threads for blocking work end by themselves after some seconds.
    assert.ok(count().threads <= before.threads + 8, `${JSON.stringify(before)} became ${JSON.stringify(count())}`);
  },
};
