import { type CallOptions, bytes, encode, run } from './call.js';
import { type AttachOptions, type ExecOptions, ExecOperations, type ExecResult, type RunOptions } from './generated.js';
import { Process } from './process.js';

/** A command that has run, with its output. */
export interface RunResult extends ExecResult {
  /** What it wrote to stdout: the first `max_output_bytes`, then the last `tail_bytes` of the rest. */
  stdout: Buffer;
  /** What it wrote to stderr, in the same way. */
  stderr: Buffer;
}

/** How to run a command to its end. */
export interface RunCallOptions extends Omit<RunOptions, 'command'>, CallOptions {
  /** Its stdin. Default: empty. */
  input?: string | Uint8Array | undefined;
}

/** How to start a command. */
export interface SpawnCallOptions extends Omit<ExecOptions, 'command'>, CallOptions {
  /** Cancels the start; later, it kills the command's process group, or lets go of a session. */
  signal?: AbortSignal | undefined;
  /** Milliseconds that the start may take. For the command itself, see `timeout_ms`. Default: none. */
  timeLimitMs?: number | undefined;
}

/** How to attach to a session. */
export interface AttachCallOptions extends Omit<AttachOptions, 'session_id'>, CallOptions {
  /** Cancels the attaching; later, it lets go of the session. */
  signal?: AbortSignal | undefined;
}

/** A command line for a shell, or a program with its arguments, started without one. */
export type Command = string | readonly string[];

/** What a command is in the options. */
function named(command: Command | undefined): { command?: string; args?: readonly string[] } {
  if (command === undefined) {
    return {};
  }
  return typeof command === 'string' ? { command } : { args: command };
}

/** Commands inside a workspace. */
export class Exec extends ExecOperations {
  /**
   * Runs a command to its end and collects its output. A command that fails does not reject: look at `exit_code`.
   *
   * @param command A command line, or a program with its arguments; undefined when `options.args` has them.
   * @throws {DunnageError} INVALID_ARGUMENT for a malformed option; NOT_FOUND when there is no such workspace;
   * UNAVAILABLE when it does not run or its agent goes away; CANCELLED, TIMEOUT: the process group is killed.
   */
  async run(command: Command | undefined, options: RunCallOptions = {}): Promise<RunResult> {
    const operation = 'exec.run';
    const { input, ...rest } = options;
    const text = encode(operation, rest, named(command));
    const data = bytes(operation, 'input', input);
    const output = await run(operation, rest, (call) =>
      this.link.engine.execRun(this.link.workspace ?? '', text, data, call),
    );
    const result = JSON.parse(output.result) as ExecResult;
    return { ...result, stdout: output.stdout, stderr: output.stderr };
  }

  /**
   * Starts a command with its streams open. With `detach` it becomes a session, which goes on without this program.
   *
   * @param command As for {@link Exec.run}; undefined also for the user's shell, with `pty`.
   * @throws {DunnageError} As {@link Exec.run}.
   */
  async spawn(command?: Command, options: SpawnCallOptions = {}): Promise<Process> {
    const operation = 'exec.spawn';
    const text = encode(operation, options, named(command));
    const native = await run(operation, options, (call) =>
      this.link.engine.execSpawn(this.link.workspace ?? '', text, call),
    );
    return new Process(native, options.signal);
  }

  /**
   * Attaches to a session, with its streams: first the output it has kept, then what is new. Letting go of the process
   * leaves the session as it is.
   *
   * @throws {DunnageError} NOT_FOUND when there is no such session or workspace; UNSUPPORTED when the agent is too old.
   */
  async attach(sessionId: string, options: AttachCallOptions = {}): Promise<Process> {
    const operation = 'exec.attach';
    const text = encode(operation, options, { session_id: sessionId });
    const native = await run(operation, options, (call) =>
      this.link.engine.execAttach(this.link.workspace ?? '', text, call),
    );
    return new Process(native, options.signal);
  }
}
