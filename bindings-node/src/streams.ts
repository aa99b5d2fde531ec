import { Readable, Writable } from 'node:stream';
import { fromNative } from './error.js';
import type { WriteResult } from './types.js';
import type { NativeFileReader, NativeFileWriter } from './native.js';

type Done = (error?: Error | null) => void;

/** Bytes that a stream holds before it makes the other side wait. */
const HIGH_WATER_MARK = 1024 * 1024;

function settle(work: Promise<unknown>, done: Done): void {
  work.then(
    () => done(),
    (thrown: unknown) => done(fromNative(thrown) as Error),
  );
}

/** Tells that a stream's file is open, or why not. A stream that was destroyed meanwhile has its reason already. */
function opened(stream: Readable | Writable, opening: Promise<unknown>, done: Done): void {
  settle(opening, (error) => done(stream.destroyed ? null : error));
}

/** A file of a workspace as a stream of its bytes. */
export class FileReadStream extends Readable {
  readonly #open: () => Promise<NativeFileReader>;
  #reader: NativeFileReader | undefined;

  /** @internal */
  constructor(open: () => Promise<NativeFileReader>, signal: AbortSignal | undefined) {
    super({ highWaterMark: HIGH_WATER_MARK, ...(signal === undefined ? {} : { signal }) });
    this.#open = open;
  }

  override _construct(done: Done): void {
    // Streams call this once the constructors have run, and nothing else before it is done.
    opened(this, this.#open().then((reader) => (this.#reader = reader)), done);
  }

  override _read(): void {
    this.#reader?.next().then(
      (chunk) => this.push(chunk),
      (thrown: unknown) => this.destroy(fromNative(thrown) as Error),
    );
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#reader?.close();
    done(error);
  }
}

/** A file of a workspace that takes the old one's place when the stream finishes, and not before. */
export class FileWriteStream extends Writable {
  readonly #open: () => Promise<NativeFileWriter>;
  #writer: NativeFileWriter | undefined;
  #result: WriteResult | undefined;

  /** @internal */
  constructor(open: () => Promise<NativeFileWriter>, signal: AbortSignal | undefined) {
    super({ highWaterMark: HIGH_WATER_MARK, ...(signal === undefined ? {} : { signal }) });
    this.#open = open;
  }

  /** What was written, once the stream has finished. */
  get result(): WriteResult | undefined {
    return this.#result;
  }

  override _construct(done: Done): void {
    opened(this, this.#open().then((writer) => (this.#writer = writer)), done);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    settle(this.#writer?.write(chunk) ?? Promise.resolve(), done);
  }

  override _final(done: Done): void {
    const finish = this.#writer?.finish().then((text) => {
      this.#writer = undefined;
      this.#result = JSON.parse(text) as WriteResult;
    });
    settle(finish ?? Promise.resolve(), done);
  }

  override _destroy(error: Error | null, done: Done): void {
    // A stream that ends early leaves the old file as it was.
    const abort = this.#writer?.abort() ?? Promise.resolve();
    abort.then(
      () => done(error),
      () => done(error),
    );
  }
}
