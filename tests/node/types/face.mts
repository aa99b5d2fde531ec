// Compiled, never run: what programs write must be accepted, and what they must not write refused.
import type { Readable, Writable } from 'node:stream';
import {
  type CreateResult,
  DunnageError,
  Engine,
  type ErrorCode,
  type Event,
  type ExitStatus,
  type Operation,
  type WorkspaceInfo,
} from 'dunnage';

export async function accepted(controller: AbortController): Promise<void> {
  await using engine = await Engine.open({ data_root: '/srv/x', containerd: { namespace: 'a' }, timezone: null });
  const ws = engine.workspace('agent-1');
  const creating: Operation<CreateResult> = ws.create({
    image: 'debian:bookworm-slim',
    ports: [{ host_port: 8080, container_port: 80 }],
    limits: { cpus: 1.5 },
    signal: controller.signal,
    timeLimitMs: 60_000,
    onEvent: (event: Event) => console.log(event.type, event.layers?.[0]?.state),
  });
  for await (const event of creating) {
    if (event.type === 'pull_progress') {
      console.log(event.bytes ?? 0, event.total_bytes ?? 0);
    }
  }
  const result: CreateResult = await creating;
  const phases: number = result.phases_ms.total;
  const asPromise: Promise<CreateResult> = creating;
  const info: WorkspaceInfo = await ws.info();
  const status: 'created' | 'running' | 'stopped' | 'paused' | 'unknown' = info.status;
  await engine.image.pull('alpine:3', { policy: 'always' });
  await ws.fs.write('a.txt', Buffer.from('x'));
  const read: Buffer = await ws.fs.read('a.txt', { max_bytes: 10 });
  const { exit_code, stdout } = await ws.exec.run('true', { input: read, env: { A: 'b' } });
  const process = await ws.exec.spawn('cat', { pty: true, cols: 80, rows: 24 });
  const streams: [Writable, Readable, Readable] = [process.stdin, process.stdout, process.stderr];
  const exit: ExitStatus = await process.exit;
  await ws.ensureRunning();
  await ws.fs.stat();
  await ws.fs.rename('a', 'b');
  console.log(phases, asPromise, status, exit_code, stdout, streams, exit);
}

export function told(error: unknown): ErrorCode | undefined {
  return error instanceof DunnageError ? error.code : undefined;
}

export async function refused(engine: Engine): Promise<void> {
  const ws = engine.workspace('agent-1');
  // @ts-expect-error an unknown field
  await ws.create({ imag: 'x' });
  // @ts-expect-error a field of the wrong type
  await ws.create({ start: 'yes' });
  // @ts-expect-error an unknown value
  await engine.image.pull('x', { policy: 'sometimes' });
  // @ts-expect-error the name is positional
  await engine.image.pull({ image: 'x' });
  // @ts-expect-error a plain call has no events
  await ws.info({ onEvent: () => undefined });
  // @ts-expect-error a command must be given
  await ws.exec.run();
  // @ts-expect-error engines are opened
  new Engine();
  // @ts-expect-error no such code
  const code: ErrorCode = 'NOT_THERE';
  console.log(code);
}
