// Archives of data through streams.
import assert from 'node:assert/strict';
import { createReadStream, createWriteStream, mkdtempSync, rmSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

const FILL =
  "cd /data && mkdir -p d/empty && echo one > one && echo two > 'd/t w o' && ln -s one link && " +
  'head -c 5000000 /dev/urandom > much';
const LOOK = 'cd /data && find . | sort && find . -type f -exec md5sum {} + | sort';
const CHANGE = 'rm -rf /data/d && echo later > /data/later';
const NOW = { grace_ms: 0 };

async function said(workspace, command) {
  const { exit_code, stdout, stderr } = await workspace.exec.run(command);
  assert.equal(exit_code, 0, `${stderr}`);
  return `${stdout}`;
}

/** The workspace runs, and its data is as it was. */
async function unchanged(workspace, before) {
  assert.equal(await said(workspace, LOOK), before);
}

export async function exportStream(workspace, code) {
  await said(workspace, FILL);
  const before = await said(workspace, LOOK);
  const tmp = mkdtempSync(join(tmpdir(), 'dunnage-node-'));
  const rejections = [];
  const listen = (error) => rejections.push(error);
  process.on('unhandledRejection', listen);
  try {
    const path = join(tmp, 'data.tar.gz');
    const kinds = [];
    const stream = workspace.data.exportStream({ ...NOW, onEvent: ({ type }) => kinds.push(type) });
    await pipeline(stream, createWriteStream(path));
    const result = await stream.result;
    assert.equal(result.archive_bytes, statSync(path).size);
    assert.deepEqual([kinds[0], kinds.at(-1)], ['stopping', 'complete']);
    await unchanged(workspace, before);

    // A consumer that fails: the pipeline tells of it, the export is cancelled.
    const full = new Writable({ write: (chunk, encoding, done) => done(new Error('the shelf is full')) });
    const failing = workspace.data.exportStream(NOW);
    await assert.rejects(pipeline(failing, full), { message: 'the shelf is full' });
    await assert.rejects(failing.result, code('CANCELLED'));
    await unchanged(workspace, before);

    // Destroyed in the middle: it is closed when the workspace runs again.
    const left = workspace.data.exportStream(NOW);
    await once(left, 'readable');
    left.destroy();
    await once(left, 'close');
    assert.equal((await workspace.info()).task_running, true);
    await unchanged(workspace, before);
    const broken = workspace.data.exportStream(NOW);
    // To leave the loop is an abort, which the stream tells of too.
    const closed = new Promise((resolve) => broken.once('close', resolve));
    for await (const chunk of broken) {
      assert.ok(chunk.length > 0);
      break;
    }
    await closed;
    await unchanged(workspace, before);

    // Cancelled by a signal, while nobody reads.
    const abort = new AbortController();
    const aborted = workspace.data.exportStream({ ...NOW, signal: abort.signal });
    const failed = once(aborted, 'error');
    await once(aborted, 'readable');
    abort.abort(new Error('enough'));
    const [error] = await failed;
    code('CANCELLED')(error);
    assert.equal(error.cause.message, 'enough');
    await assert.rejects(aborted.result, code('CANCELLED'));
    await unchanged(workspace, before);

    // What is wrong with the call is told by the stream too.
    for (const options of [{ destination: '/tmp/x' }, { colour: 'red' }, { onEvent: 'print' }, null]) {
      await assert.rejects(buffer(workspace.data.exportStream(options)), code('INVALID_ARGUMENT'));
    }
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(rejections, []);
  } finally {
    process.off('unhandledRejection', listen);
    rmSync(tmp, { recursive: true });
  }
}

export async function importStream(workspace, code) {
  await said(workspace, FILL);
  const before = await said(workspace, LOOK);
  const archive = await buffer(workspace.data.exportStream(NOW));
  const pieces = function* (end = archive.length) {
    for (let at = 0; at < end; at += 70_001) {
      yield archive.subarray(at, Math.min(at + 70_001, end));
    }
  };
  const tmp = mkdtempSync(join(tmpdir(), 'dunnage-node-'));
  try {
    const path = join(tmp, 'data.tar.gz');
    await pipeline(() => pieces(), createWriteStream(path));
    const sources = [
      createReadStream(path),
      pieces(),
      (async function* () {
        yield* pieces();
      })(),
    ];
    for (const source of sources) {
      await said(workspace, CHANGE);
      const result = await workspace.data.importStream(source, NOW);
      assert.equal(result.archive_bytes, archive.length);
      await unchanged(workspace, before);
    }
  } finally {
    rmSync(tmp, { recursive: true });
  }
  await said(workspace, CHANGE);
  const changed = await said(workspace, LOOK);

  // A producer that fails is the cause; so is a stream that is cut off.
  const reason = new Error('the shelf is empty');
  const failing = async function* () {
    yield* pieces(1_000_000);
    throw reason;
  };
  for (const source of [failing(), Readable.from(failing())]) {
    await assert.rejects(workspace.data.importStream(source, NOW), (error) => {
      code('UNEXPECTED')(error);
      return error.message.includes('the shelf is empty') && error.cause === reason;
    });
    await unchanged(workspace, changed);
  }
  // Another end than the producer's destroys it.
  const corrupt = new PassThrough();
  corrupt.on('error', () => undefined);
  corrupt.write(Buffer.alloc(4_000_000, 'x'));
  await assert.rejects(workspace.data.importStream(corrupt, NOW), code('DATA_CORRUPT'));
  assert.equal(corrupt.destroyed, true);
  await unchanged(workspace, changed);

  // Cancelled while it waits for more, in both ways.
  const abort = new AbortController();
  for (const options of [NOW, { ...NOW, signal: abort.signal }]) {
    const stalled = new PassThrough();
    stalled.write(archive.subarray(0, 1_000_000));
    const operation = workspace.data.importStream(stalled, options);
    for await (const event of operation) {
      if (event.type === 'data_progress') {
        break;
      }
    }
    if (options === NOW) {
      operation.cancel();
    } else {
      abort.abort();
    }
    await assert.rejects(operation, code('CANCELLED'));
    assert.equal(stalled.destroyed, true);
    await unchanged(workspace, changed);
  }
  for (const source of [null, 5, 'text', [5], archive, (async () => undefined)()]) {
    await assert.rejects(workspace.data.importStream(source, NOW), code('INVALID_ARGUMENT'));
  }
  await assert.rejects(workspace.data.importStream([], { source: '/tmp/x' }), code('INVALID_ARGUMENT'));
  await unchanged(workspace, changed);
}
