import { constants } from 'node:os';
import { Duplex, Readable, Writable } from 'node:stream';
import { fromNative, invalidArgument } from './error.js';
import type { ExitStatus } from './types.js';
import type { NativeProcess } from './native.js';

/** Bytes of output that a stream holds for a reader that does not keep up. */
const HIGH_WATER_MARK = 256 * 1024;

/**
 * Reads the one ordered output of the agent into two streams, and no faster than both are read: a reader that does not
 * keep up makes the command wait.
 */
class Output {
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly #native: NativeProcess;
  readonly #full = new Set<Readable>();
  #pumping = false;

  constructor(native: NativeProcess) {
    this.#native = native;
    this.stdout = this.#stream();
    this.stderr = this.#stream();
    void this.#pump();
  }

  #stream(): Readable {
    const wanted = (stream: Readable): void => {
      this.#full.delete(stream);
      void this.#pump();
    };
    const stream = new Readable({
      highWaterMark: HIGH_WATER_MARK,
      read(): void {
        wanted(this);
      },
      destroy(error, done): void {
        // What comes for a destroyed stream is dropped, so that the other one, and the command, go on.
        wanted(this);
        done(error);
      },
    });
    // A failure is told by `exit` and to whoever reads; nobody reading is no reason to end the process.
    stream.on('error', () => undefined);
    return stream;
  }

  async #pump(): Promise<void> {
    if (this.#pumping) {
      return;
    }
    this.#pumping = true;
    try {
      while (this.#full.size === 0) {
        const chunk = await this.#native.nextOutput();
        if (chunk === null) {
          this.stdout.push(null);
          this.stderr.push(null);
          return;
        }
        const stream = chunk.stderr ? this.stderr : this.stdout;
        if (!stream.destroyed && !stream.push(chunk.data)) {
          this.#full.add(stream);
        }
      }
      this.#pumping = false;
    } catch (thrown) {
      const error = fromNative(thrown) as Error;
      this.stdout.destroy(error);
      this.stderr.destroy(error);
    }
  }
}

function stdin(native: NativeProcess): Writable {
  const stream = new Writable({
    highWaterMark: HIGH_WATER_MARK,
    write(chunk: Buffer, _encoding, done): void {
      native.writeStdin(chunk).then(() => done(), (thrown: unknown) => done(fromNative(thrown) as Error));
    },
    final(done): void {
      native.closeStdin().then(() => done(), (thrown: unknown) => done(fromNative(thrown) as Error));
    },
    destroy(error, done): void {
      if (native.sessionId !== null) {
        // Others may go on writing to a session: only an explicit end is one for all.
        done(error);
        return;
      }
      native.closeStdin().then(() => done(error), () => done(error));
    },
  });
  // A command may end without reading its stdin: that is told to the callback of the write, and ends nothing.
  stream.on('error', () => undefined);
  return stream;
}

/**
 * A command inside a workspace, with its streams open.
 *
 * Read both streams, or `resume()` what you do not want: a command whose output nobody reads waits, as it would on a
 * full pipe. The command's process group is killed when this object is disposed of or garbage collected; a session is let
 * go of then, and never waits for its readers.
 */
export class Process implements AsyncDisposable {
  /** Its process id inside the workspace; undefined where the agent is too old to tell. */
  readonly pid: number | undefined;
  /** The id by which it can be attached to; undefined when it is no session. */
  readonly sessionId: string | undefined;
  /** Its stdin. End it for commands that read to the end of their input. */
  readonly stdin: Writable;
  /** Its stdout; with a terminal, all its output. */
  readonly stdout: Readable;
  /** Its stderr. */
  readonly stderr: Readable;
  /** Resolves when it has ended; rejects when the agent is lost. A command that fails does not reject. */
  readonly exit: Promise<ExitStatus>;
  readonly #native: NativeProcess;
  #ended = false;

  /** @internal */
  constructor(native: NativeProcess, signal: AbortSignal | undefined) {
    this.#native = native;
    this.pid = native.pid ?? undefined;
    this.sessionId = native.sessionId ?? undefined;
    this.stdin = stdin(native);
    const output = new Output(native);
    this.stdout = output.stdout;
    this.stderr = output.stderr;
    const abort = (): void => void this.#letGo().catch(() => undefined);
    this.exit = native
      .wait()
      .then(
        (text) => JSON.parse(text) as ExitStatus,
        (thrown: unknown) => {
          throw fromNative(thrown);
        },
      )
      .finally(() => {
        this.#ended = true;
        signal?.removeEventListener('abort', abort);
      });
    // Whoever wants it awaits it, now or later.
    this.exit.catch(() => undefined);
    if (signal?.aborted) {
      abort();
    }
    signal?.addEventListener('abort', abort, { once: true });
  }

  /**
   * Sets the size of its terminal.
   *
   * @throws {DunnageError} INVALID_ARGUMENT unless both are 1 to 65535; FAILED_PRECONDITION when it has no terminal.
   */
  resize(cols: number, rows: number): void {
    for (const [field, value] of Object.entries({ cols, rows })) {
      // The addon would round or wrap what is no such number.
      if (!Number.isInteger(value) || value < 1 || value > 65_535) {
        throw invalidArgument(`${field} must be 1 to 65535`, 'exec.spawn', { field, value: String(value) });
      }
    }
    try {
      this.#native.resize(cols, rows);
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  /**
   * Sends a signal to its process group. One that has ended already is no error.
   *
   * @param signal A name such as `SIGINT` or `INT`, or a number. Default `SIGTERM`.
   * @throws {DunnageError} INVALID_ARGUMENT for what is no signal.
   */
  async kill(signal: NodeJS.Signals | (string & {}) | number = 'SIGTERM'): Promise<void> {
    const text = String(signal).toUpperCase();
    const isKill = ['SIGKILL', 'KILL', String(constants.signals.SIGKILL)].includes(text);
    if (!isKill || !this.#ended) {
      await this.#try(isKill ? this.#native.kill() : this.#native.signal(text));
    }
  }

  /**
   * Lets go of a session: it goes on, and can be attached to again. Its streams are destroyed, and `exit` rejects.
   *
   * @throws {DunnageError} FAILED_PRECONDITION when it is no session.
   */
  detach(): void {
    try {
      this.#native.detach();
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  /**
   * The process as one stream both ways, as for a terminal: reading gives stdout, writing goes to stdin, and ending it
   * ends stdin. stderr is dropped. Destroying it disposes of the process. Use it in place of `stdin` and `stdout`.
   */
  duplex(): Duplex {
    this.stderr.resume();
    const { stdin, stdout } = this;
    const duplex = new Duplex({
      readableHighWaterMark: HIGH_WATER_MARK,
      writableHighWaterMark: HIGH_WATER_MARK,
      // A program that ends takes no more input.
      autoDestroy: true,
      allowHalfOpen: true,
      read: () => void stdout.resume(),
      write: (chunk: Buffer, _encoding, done) => void stdin.write(chunk, done),
      final: (done) => void stdin.end(done),
      destroy: (error, done) => {
        this[Symbol.asyncDispose]().then(() => done(error), () => done(error));
      },
    });
    stdout.on('data', (chunk: Buffer) => {
      if (!duplex.push(chunk)) {
        stdout.pause();
      }
    });
    stdout.once('end', () => duplex.push(null));
    stdout.once('error', (error) => duplex.destroy(error));
    stdout.pause();
    return duplex;
  }

  /** Kills its process group, unless it has ended, and waits for its end; lets go of a session. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stdin.destroy();
    this.stdout.destroy();
    this.stderr.destroy();
    await this.#letGo().catch(() => undefined);
    await this.exit.catch(() => undefined);
  }

  async #letGo(): Promise<void> {
    if (this.#ended) {
      return;
    }
    if (this.sessionId === undefined) {
      await this.kill('SIGKILL');
    } else {
      this.detach();
    }
  }

  async #try(call: Promise<unknown>): Promise<void> {
    try {
      await call;
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }
}
