import { Readable } from 'node:stream';
import { type OperationCallOptions, begin } from './call.js';
import { DunnageError, fromNative, invalidArgument } from './error.js';
import { DataOperations } from './generated.js';
import type { NativeDataExport, NativeDataImport } from './native.js';
import type { Operation } from './operation.js';
import type { DataExportOptions, DataExportResult, DataImportOptions, DataImportResult } from './types.js';

type Done = (error?: Error | null) => void;

/** Bytes that a stream holds before it makes the export wait. */
const HIGH_WATER_MARK = 1024 * 1024;

/** How an archive is written to a stream. */
export interface ExportStreamOptions
  extends Omit<DataExportOptions, 'destination' | 'fd' | 'overwrite' | 's3'>,
    OperationCallOptions {}

/** How an archive is read from a stream. */
export interface ImportStreamOptions extends Omit<DataImportOptions, 'source' | 'fd' | 's3'>, OperationCallOptions {}

/** What an archive is read from. */
export type ArchiveSource = Readable | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** The data directory of a workspace: what is meant to outlive its container. */
export class Data extends DataOperations {
  /**
   * Writes the data directory to an archive that is read from the stream that this returns:
   * `await pipeline(workspace.data.exportStream(), createWriteStream(path))`.
   */
  exportStream(options: ExportStreamOptions = {}): DataExportStream {
    const { engine, workspace = '' } = this.link;
    return new DataExportStream((take) =>
      begin('data.export_stream', {}, options, (text, call) => {
        const native = engine.dataExportStream(workspace, text, call);
        take(native);
        return native.result();
      }),
    );
  }

  /**
   * Puts an archive that is read from a stream into the data directory: all of it, at once, or nothing. The stream is
   * read no faster than the archive is unpacked, and destroyed when the import ends before it does. When it fails, so
   * does the import, with its error as the `cause`.
   */
  importStream(source: ArchiveSource, options: ImportStreamOptions = {}): Operation<DataImportResult> {
    const operation = 'data.import_stream';
    const { engine, workspace = '' } = this.link;
    return begin(operation, {}, options, async (text, call) => {
      const pieces = iterate(operation, source);
      const native = engine.dataImportStream(workspace, text, call);
      const result = native.result();
      const feeding = feed(operation, native, pieces, result);
      try {
        return await result;
      } catch (thrown) {
        const error = fromNative(thrown);
        const fault = await feeding;
        if (fault === undefined || !(error instanceof DunnageError) || error.code === 'CANCELLED') {
          throw error;
        }
        if (fault.error instanceof DunnageError) {
          throw fault.error;
        }
        const { code, message, context } = error;
        throw new DunnageError(code, message, { operation: error.operation, context, cause: fault.error });
      } finally {
        if (source instanceof Readable) {
          source.destroy();
        }
      }
    });
  }
}

/**
 * An archive of a workspace's data as it is made. The export has begun, and goes as fast as it is read; the workspace is
 * locked until then: read the stream to its end, or destroy it, which cancels the export. It is closed when the export is
 * over and the workspace runs again, if it ran. A failure destroys it with a {@link DunnageError}; what was read until
 * then is no archive.
 */
export class DataExportStream extends Readable {
  /** The export: await it for its result, iterate it for its events. It ends once the archive was read to its end. */
  readonly result: Operation<DataExportResult>;
  #native: NativeDataExport | undefined;

  /** @internal */
  constructor(start: (take: (native: NativeDataExport) => void) => Operation<DataExportResult>) {
    super({ highWaterMark: HIGH_WATER_MARK });
    this.result = start((native) => (this.#native = native));
    // The stream tells of a failure: a program that only reads it has not left it unhandled.
    this.result.catch((error: unknown) => this.destroy(error as Error));
  }

  override _read(): void {
    this.#native?.next().then(
      // The end of the bytes is that of an archive only when the export has succeeded.
      (chunk) => (chunk === null ? this.#end() : this.push(chunk)),
      (thrown: unknown) => this.destroy(fromNative(thrown) as Error),
    );
  }

  override _destroy(error: Error | null, done: Done): void {
    const over = (): void => done(error);
    this.result.cancel();
    this.result.then(over, over);
  }

  #end(): void {
    this.result.then(
      () => this.push(null),
      () => undefined,
    );
  }
}

type Pieces = AsyncIterator<Uint8Array> | Iterator<Uint8Array>;

/** What iterates a source. */
function iterate(operation: string, source: ArchiveSource): Pieces {
  if (typeof source === 'object' && source !== null) {
    if (Symbol.asyncIterator in source) {
      return source[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    }
    if (Symbol.iterator in source) {
      return source[Symbol.iterator]();
    }
  }
  throw invalidArgument('the source must be a stream or an iterable of Uint8Array', operation, { field: 'source' });
}

/** Gives all pieces to an import, until either side ends; resolves with the source's fault if it has one. */
async function feed(
  operation: string,
  native: NativeDataImport,
  pieces: Pieces,
  result: Promise<unknown>,
): Promise<{ error: unknown } | undefined> {
  // One wait for the import's end, however many pieces there are.
  let isOver = false;
  let stop = (): void => undefined;
  const over = (): void => {
    isOver = true;
    stop();
  };
  result.then(over, over);
  try {
    for (;;) {
      const next = await new Promise<IteratorResult<Uint8Array> | undefined>((resolve, reject) => {
        stop = () => resolve(undefined);
        Promise.resolve(pieces.next()).then(resolve, reject);
      });
      if (next === undefined || isOver) {
        break;
      }
      if (next.done === true) {
        await native.finish().catch(() => undefined);
        return undefined;
      }
      if (!(next.value instanceof Uint8Array)) {
        throw invalidArgument('the source gave something else than a Uint8Array', operation, { field: 'source' });
      }
      // When it takes no more it has ended, and tells why itself.
      if (!(await native.write(next.value).then(() => true, () => false))) {
        break;
      }
    }
  } catch (error) {
    native.fail(String(error), errno(error));
    leave(pieces);
    return { error };
  }
  leave(pieces);
  return undefined;
}

/** Lets go of an iterator, which may be busy and may fail: nobody waits for it any more. */
function leave(pieces: Pieces): void {
  void (async () => pieces.return?.())().catch(() => undefined);
}

/** The number of the system's error that an error stands for. */
function errno(error: unknown): number | undefined {
  const number = (error as { errno?: unknown } | null | undefined)?.errno;
  return typeof number === 'number' && number < 0 ? -number : undefined;
}
