// Detached commands, and terminals as streams.
import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';

async function until(process, part) {
  let seen = '';
  while (!seen.includes(part)) {
    const piece = process.stdout.read();
    if (piece === null) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      assert.ok(!process.stdout.readableEnded, `the end before ${part}, after ${seen}`);
    } else {
      seen += `${piece}`;
    }
  }
}

export async function session(workspace, code) {
  const { exec } = workspace;
  const options = { detach: true, session_id: 's' };
  const first = await exec.spawn('echo up; cat', options);
  assert.equal(first.sessionId, 's');
  await until(first, 'up\n');
  await first[Symbol.asyncDispose]();
  await assert.rejects(exec.wait('s', { timeout_ms: 50 }), code('TIMEOUT'));
  await assert.rejects(exec.spawn('true', options), code('ALREADY_EXISTS'));

  const one = await exec.attach('s');
  const abort = new AbortController();
  const other = await exec.attach('s', { signal: abort.signal });
  one.stdin.write('more\n');
  await Promise.all([until(one, 'up\nmore\n'), until(other, 'up\nmore\n')]);
  abort.abort();
  await assert.rejects(other.exit, code('FAILED_PRECONDITION'));
  await assert.rejects(one.kill('NOTHING'), code('INVALID_ARGUMENT'));
  await one.kill('USR1');
  for (const exit of [await one.exit, await exec.wait('s')]) {
    assert.deepEqual([exit.signal, exit.session_id], [10, 's']);
  }
}

export async function terminal(workspace) {
  const process = await workspace.exec.spawn(undefined, { pty: true });
  const duplex = process.duplex();
  duplex.write('echo $((6*7))-$TERM; exit\n');
  assert.match(await text(duplex), /42-xterm-256color/);
  assert.equal((await process.exit).exit_code, 0);
  const cat = (await workspace.exec.spawn(['cat'])).duplex();
  cat.end('there and back');
  assert.equal(await text(cat), 'there and back');
  const lost = await workspace.exec.spawn(['sleep', '60']);
  lost.duplex().destroy();
  assert.equal((await lost.exit).signal, 9);
}
