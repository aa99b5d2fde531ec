import { type CallOptions, bytes, encode, run } from './call.js';
import {
  FsOperations,
  type OpenReadOptions,
  type ReadOptions,
  type WriteOptions,
  type WriteResult,
} from './generated.js';
import { FileReadStream, FileWriteStream } from './streams.js';

/**
 * Files inside a workspace: the whole container is reachable. A relative path is under the data directory.
 *
 * Every method rejects with NOT_FOUND when there is no such workspace, and UNAVAILABLE when it does not run.
 */
export class Fs extends FsOperations {
  /**
   * Reads a file, or a part of one, into memory.
   *
   * @throws {DunnageError} NOT_FOUND; FAILED_PRECONDITION when it is no regular file; RESOURCE_EXHAUSTED when there
   * is more of it than `max_bytes`.
   */
  async read(path: string, options: Omit<ReadOptions, 'path'> & CallOptions = {}): Promise<Buffer> {
    const operation = 'fs.read';
    const text = encode(operation, options, { path });
    return run(operation, options, (call) => this.link.engine.fsRead(this.link.workspace ?? '', text, call));
  }

  /**
   * Replaces a file by these bytes, at once or not at all; with `expected_revision` only when what is there is as it was
   * seen. Missing parents are made. Text is written as UTF-8. The bytes
   * are copied before this returns: the buffer may be used again at once.
   *
   * @throws {DunnageError} CONFLICT when what is there is not what was expected; FAILED_PRECONDITION when the path is a
   * directory; PERMISSION_DENIED; RESOURCE_EXHAUSTED on a full disk.
   */
  async write(
    path: string,
    content: string | Uint8Array,
    options: Omit<WriteOptions, 'path'> & CallOptions = {},
  ): Promise<WriteResult> {
    const operation = 'fs.write';
    const text = encode(operation, options, { path });
    const data = bytes(operation, 'content', content);
    const result = await run(operation, options, (call) =>
      this.link.engine.fsWrite(this.link.workspace ?? '', text, data, call),
    );
    return JSON.parse(result) as WriteResult;
  }

  /**
   * Reads a file of any length, or a part of one, as a stream. A failure destroys the stream with a {@link DunnageError}; `signal` destroys
   * it with the usual `AbortError`.
   */
  createReadStream(path: string, options: Omit<OpenReadOptions, 'path'> & CallOptions = {}): FileReadStream {
    const operation = 'fs.open_read';
    const open = async () => {
      const text = encode(operation, options, { path });
      return run(operation, options, (call) => this.link.engine.fsOpenRead(this.link.workspace ?? '', text, call));
    };
    return new FileReadStream(open, options.signal);
  }

  /**
   * Writes a file of any length as a stream. It takes the old one's place when the stream finishes; a stream that is
   * destroyed before leaves the old file as it was.
   */
  createWriteStream(path: string, options: Omit<WriteOptions, 'path'> & CallOptions = {}): FileWriteStream {
    const operation = 'fs.open_write';
    const open = async () => {
      const text = encode(operation, options, { path });
      return run(operation, options, (call) => this.link.engine.fsOpenWrite(this.link.workspace ?? '', text, call));
    };
    return new FileWriteStream(open, options.signal);
  }
}
