import { type CallOptions, Noun, bytes, encode, run } from './call.js';
import type { ExecOptions, ExecResult, RunOptions } from './types.js';
import { Process } from './process.js';

/** A command that has run, with its output. */
export interface RunResult extends ExecResult {
  /** What it wrote to stdout, up to `max_output_bytes`. */
  stdout: Buffer;
  /** What it wrote to stderr, up to `max_output_bytes`. */
  stderr: Buffer;
}

/** How to run a command to its end. */
export interface RunCallOptions extends Omit<RunOptions, 'command'>, CallOptions {
  /** Its stdin. Default: empty. */
  input?: string | Uint8Array | undefined;
}

/** How to start a command. */
export interface SpawnCallOptions extends Omit<ExecOptions, 'command'>, CallOptions {
  /** Cancels the start; later, it kills the command's process group. */
  signal?: AbortSignal | undefined;
  /** Milliseconds that the start may take. For the command itself, see `timeout_ms`. Default: none. */
  timeLimitMs?: number | undefined;
}

/** Commands inside a workspace. */
export class Exec extends Noun {
  /**
   * Runs a command to its end and collects its output. A command that fails does not reject: look at `exit_code`.
   *
   * @throws {DunnageError} INVALID_ARGUMENT for a malformed option; NOT_FOUND when there is no such workspace;
   * UNAVAILABLE when it does not run or its agent goes away; CANCELLED, TIMEOUT: the process group is killed.
   */
  async run(command: string, options: RunCallOptions = {}): Promise<RunResult> {
    const operation = 'exec.run';
    const { input, ...rest } = options;
    const text = encode(operation, rest, { command });
    const data = bytes(operation, 'input', input);
    const output = await run(operation, rest, (call) =>
      this.link.engine.execRun(this.link.workspace ?? '', text, data, call),
    );
    const result = JSON.parse(output.result) as ExecResult;
    return { ...result, stdout: output.stdout, stderr: output.stderr };
  }

  /**
   * Starts a command with its streams open.
   *
   * @throws {DunnageError} As {@link Exec.run}.
   */
  async spawn(command: string, options: SpawnCallOptions = {}): Promise<Process> {
    const operation = 'exec.spawn';
    const text = encode(operation, options, { command });
    const native = await run(operation, options, (call) =>
      this.link.engine.execSpawn(this.link.workspace ?? '', text, call),
    );
    return new Process(native, options.signal);
  }
}
