// The steps of the behaviour cases, through the public face.
import { once } from 'node:events';
import { buffer } from 'node:stream/consumers';
import { finished } from 'node:stream/promises';
import { DunnageError, Engine } from '../../../bindings-node/dist/index.mjs';
import { eventsFault, eventsMismatch, fill, merge, mismatch, outputMatches } from './match.mjs';

/** Takes positional arguments out of options. */
function take(options, ...names) {
  const rest = { ...options };
  const values = names.map((name) => {
    const value = rest[name];
    delete rest[name];
    return value;
  });
  return [...values, rest];
}

const withEvents = new Set([
  'image.pull',
  'workspace.create',
  'workspace.start',
  'workspace.ensure_running',
  'workspace.stop',
  'workspace.delete',
  'engine.reconcile',
  'engine.gc',
  'fs.archive',
  'fs.download',
  'fs.extract',
  'fs.upload',
  'data.export',
  'data.import',
  'data.preserve',
  'data.restore',
  'data.discard',
  'workspace.recreate',
  'workspace.set_limits',
  'snapshots.create',
  'snapshots.rollback',
  'snapshots.fork',
  'snapshots.delete',
  'snapshots.prune',
]);

async function gather(stream) {
  const items = [];
  for await (const item of stream) {
    items.push(item);
  }
  return { items };
}

/** How each operation is called; each gets the engine, the workspace, options with those of the call, and the input. */
const calls = {
  'engine.health': (engine, ws, options) => engine().health(options),
  'engine.list': (engine, ws, options) => engine().list(options),
  'engine.events': (engine, ws, options) => gather(engine().events(options)),
  'engine.reconcile': (engine, ws, options) => engine().reconcile(options),
  'engine.gc': (engine, ws, options) => engine().gc(options),
  'image.pull': (engine, ws, options) => engine().image.pull(...take(options, 'image')),
  'image.resolve_digest': (engine, ws, options) => engine().image.resolveDigest(...take(options, 'image')),
  'image.list': (engine, ws, options) => engine().image.list(options),
  'image.get': (engine, ws, options) => engine().image.get(...take(options, 'image')),
  'image.delete': (engine, ws, options) => engine().image.delete(...take(options, 'image')),
  'workspace.create': (engine, ws, options) => ws().create(options),
  'workspace.info': (engine, ws, options) => ws().info(options),
  'workspace.metrics': (engine, ws, options) => ws().metrics(options),
  'workspace.metrics_stream': (engine, ws, options) => gather(ws().metricsStream(options)),
  'workspace.start': (engine, ws, options) => ws().start(options),
  'workspace.ensure_running': (engine, ws, options) => ws().ensureRunning(options),
  'workspace.stop': (engine, ws, options) => ws().stop(options),
  'workspace.delete': (engine, ws, options) => ws().delete(options),
  'data.export': (engine, ws, options) => ws().data.export(options),
  'data.import': (engine, ws, options) => ws().data.import(options),
  'data.preserve': (engine, ws, options) => ws().data.preserve(options),
  'data.restore': (engine, ws, options) => ws().data.restore(options),
  'data.preserved': (engine, ws, options) => ws().data.preserved(options),
  'data.discard': (engine, ws, options) => ws().data.discard(...take(options, 'generation')),
  'workspace.recreate': (engine, ws, options) => ws().recreate(options),
  'workspace.set_limits': (engine, ws, options) => ws().setLimits(options),
  'snapshots.create': (engine, ws, options) => ws().snapshots.create(options),
  'snapshots.list': (engine, ws, options) => ws().snapshots.list(options),
  'snapshots.rollback': (engine, ws, options) => ws().snapshots.rollback(...take(options, 'version')),
  'snapshots.versions': (engine, ws, options) => ws().snapshots.versions(options),
  'snapshots.tree': (engine, ws, options) => ws().snapshots.tree(options),
  'snapshots.fork': (engine, ws, options) => ws().snapshots.fork(...take(options, 'version', 'new_id')),
  'skills.list': (engine, ws, options) => ws().skills.list(options),
  'skills.upsert': (engine, ws, options) => ws().skills.upsert(...take(options, 'skills')),
  'skills.delete': (engine, ws, options) => ws().skills.delete(...take(options, 'names')),
  'mcp.connect': (engine, ws, options) => ws().mcp.connect(...take(options, 'command')),
  'mcp.list': (engine, ws, options) => ws().mcp.list(options),
  'mcp.send': (engine, ws, options) => ws().mcp.send(...take(options, 'connection_id', 'message')),
  'mcp.notifications': (engine, ws, options) => gather(ws().mcp.notifications(...take(options, 'connection_id'))),
  'mcp.close': (engine, ws, options) => ws().mcp.close(...take(options, 'connection_id')),
  'tools.list': (engine, ws, options) => ws().tools.list(options),
  'tools.call': (engine, ws, options) => ws().tools.call(...take(options, 'name')),
  'snapshots.diff': (engine, ws, options) => ws().snapshots.diff(options),
  'snapshots.delete': (engine, ws, options) => ws().snapshots.delete(...take(options, 'version')),
  'snapshots.prune': (engine, ws, options) => ws().snapshots.prune(options),
  'exec.sessions': (engine, ws, options) => ws().exec.sessions(options),
  'exec.wait': (engine, ws, options) => ws().exec.wait(...take(options, 'session_id')),
  'exec.signal': (engine, ws, options) => ws().exec.signal(...take(options, 'session_id', 'signal')),
  'exec.shell': (engine, ws, options) => ws().exec.shell(options),
  'fs.stat': (engine, ws, options) => ws().fs.stat(...take(options, 'path')),
  'fs.list': (engine, ws, options) => ws().fs.list(...take(options, 'path')),
  'fs.read_text': (engine, ws, options) => ws().fs.readText(...take(options, 'path')),
  'fs.upload': (engine, ws, options) => ws().fs.upload(...take(options, 'source', 'path')),
  'fs.archive': (engine, ws, options) => ws().fs.archive(...take(options, 'path')),
  'fs.extract': (engine, ws, options) => ws().fs.extract(...take(options, 'path')),
  'fs.download': (engine, ws, options) => ws().fs.download(...take(options, 'path', 'destination')),
  'fs.mkdir': (engine, ws, options) => ws().fs.mkdir(...take(options, 'path')),
  'fs.rename': (engine, ws, options) => ws().fs.rename(...take(options, 'from', 'to')),
  'fs.remove': (engine, ws, options) => ws().fs.remove(...take(options, 'path')),
  'fs.symlink': (engine, ws, options) => ws().fs.symlink(...take(options, 'target', 'path')),
  'fs.chmod': (engine, ws, options) => ws().fs.chmod(...take(options, 'path', 'mode')),
  'fs.chown': (engine, ws, options) => ws().fs.chown(...take(options, 'path', 'owner')),
  'fs.copy': (engine, ws, options) => ws().fs.copy(...take(options, 'from', 'to')),
  'fs.walk': (engine, ws, options) => ws().fs.walk(...take(options, 'path')),
  'fs.glob': (engine, ws, options) => ws().fs.glob(...take(options, 'pattern')),
  'fs.grep': (engine, ws, options) => ws().fs.grep(...take(options, 'pattern')),
  'fs.watch': (engine, ws, options) => gather(ws().fs.watch(...take(options, 'path'))),
};

/** Reads a process to its end. */
async function drain(process) {
  const [output, stderr] = await Promise.all([buffer(process.stdout), buffer(process.stderr)]);
  return { result: await process.exit, output, stderr };
}

/** The operations that move bytes: each resolves with `{result, output, stderr}`. */
const byteCalls = {
  'exec.run': async (ws, options, input) => {
    const [command, rest] = take(options, 'command');
    const { stdout, stderr, ...result } = await ws().exec.run(command, { ...rest, input });
    return { result, output: stdout, stderr };
  },
  'exec.spawn': async (ws, options, input) => {
    const process = await ws().exec.spawn(...take(options, 'command'));
    process.stdin.end(input);
    return drain(process);
  },
  'exec.attach': async (ws, options, input) => {
    const process = await ws().exec.attach(...take(options, 'session_id'));
    process.stdin.write(input);
    return drain(process);
  },
  'fs.read': async (ws, options) => ({ output: await ws().fs.read(...take(options, 'path')) }),
  'fs.write': async (ws, options, input) => {
    const [path, rest] = take(options, 'path');
    return { result: await ws().fs.write(path, input, rest) };
  },
  'fs.open_read': async (ws, options) => ({ output: await buffer(ws().fs.createReadStream(...take(options, 'path'))) }),
  'fs.open_write': async (ws, options, input) => {
    const stream = ws().fs.createWriteStream(...take(options, 'path'));
    const done = finished(stream);
    done.catch(() => undefined);
    const middle = Math.ceil(input.length / 2);
    for (const piece of [input.subarray(0, middle), input.subarray(middle)].filter((piece) => piece.length > 0)) {
      if (!stream.write(piece)) {
        await Promise.race([once(stream, 'drain'), done]);
      }
    }
    stream.end();
    await done;
    return { result: stream.result };
  },
};

/** Runs one step; throws what is wrong. `scopes` are those of the variables, the first being what was saved. */
export async function runStep(step, engine, config, scopes, named) {
  const filled = (value) => fill(value, scopes);
  const options = filled(step.options ?? {});
  const id = filled(step.on ?? '${ws}');
  const input = Buffer.from(filled(step.input ?? '').repeat(step.repeat ?? 1));
  const events = [];
  const abort = new AbortController();
  const call = {};
  if (step.time_limit_ms !== undefined) {
    call.timeLimitMs = step.time_limit_ms;
  }
  if (step.cancel_on !== undefined) {
    call.signal = abort.signal;
  }
  if (withEvents.has(step.op)) {
    call.onEvent = (event) => {
      events.push(event);
      if (event.type === step.cancel_on) {
        abort.abort();
      }
    };
  }
  const workspace = () => {
    named.add(id);
    return engine.workspace(id);
  };
  let done = {};
  let error;
  try {
    if (step.op === 'engine.open') {
      const second = await Engine.open(merge(config, options));
      await second.close();
    } else if (step.op in byteCalls) {
      done = await byteCalls[step.op](workspace, { ...options, ...call }, input);
    } else if (step.op in calls) {
      done = { result: await calls[step.op](() => engine, workspace, { ...options, ...call }) };
    } else {
      throw new Error(`there is no operation ${step.op}`);
    }
  } catch (thrown) {
    if (!(thrown instanceof DunnageError)) {
      throw thrown;
    }
    error = thrown;
  }
  check(step, done, error, events, filled);
  if (step.save !== undefined) {
    scopes[0][step.save] = done.result;
  }
}

function check(step, done, error, events, filled) {
  const fail = (why) => {
    throw new Error(`${step.op}: ${why}`, { cause: error });
  };
  if (error !== undefined && error.code !== step.expect_error) {
    fail(`it failed with ${error.code}: ${error.message} ${JSON.stringify(error.context)}`);
  }
  if (error === undefined && step.expect_error !== undefined) {
    fail(`it succeeded, expected ${step.expect_error}`);
  }
  if (step.error_contains !== undefined) {
    const text = filled(step.error_contains);
    if (![error.message, ...Object.values(error.context)].some((part) => part.includes(text))) {
      fail(`the error does not say ${text}: ${error.message} ${JSON.stringify(error.context)}`);
    }
  }
  // An error of ours before the call began has no events.
  if (events.length > 0) {
    const fault = eventsFault(events, error);
    if (fault !== undefined) {
      fail(fault);
    }
  } else if (step.expect_events !== undefined) {
    fail('there were no events');
  }
  const wrong = [
    step.expect_events && eventsMismatch(step.expect_events, events.map((event) => event.type)),
    step.expect && mismatch(filled(step.expect), done.result),
  ].find((why) => why !== undefined);
  if (wrong !== undefined) {
    fail(wrong);
  }
  for (const [key, bytes] of [
    ['expect_output', done.output],
    ['expect_stderr', done.stderr],
  ]) {
    if (step[key] !== undefined && !outputMatches(filled(step[key]), bytes.toString())) {
      fail(`${key}: got ${JSON.stringify(bytes.toString().slice(0, 300))}`);
    }
  }
  if (step.expect_output_len !== undefined && done.output.length !== step.expect_output_len) {
    fail(`the output has ${done.output.length} bytes, expected ${step.expect_output_len}`);
  }
}
