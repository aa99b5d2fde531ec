import { DunnageError, fromNative, invalidArgument } from './error.js';
import type { Event } from './types.js';
import { native, type NativeCall, type NativeEngine } from './native.js';
import { Operation } from './operation.js';

/**
 * What goes with any call besides its options. These fields are Node's own and camelCase; the fields of the options
 * have the same snake_case names as in every other language, so the two never collide.
 */
export interface CallOptions {
  /** Cancels the call, which then rejects with CANCELLED and the signal's reason as `cause`. */
  signal?: AbortSignal | undefined;
  /** Milliseconds after which the call is undone and rejects with TIMEOUT. Default: none. */
  timeLimitMs?: number | undefined;
}

/** What goes with a call that is an operation: a multi-step write with events. */
export interface OperationCallOptions extends CallOptions {
  /**
   * Called with each event, in order. When it throws, or returns a promise that rejects, the operation goes on, the
   * callback is not called again and the fault is emitted as a process `'warning'` named `DunnageWarning`.
   */
  onEvent?: ((event: Event) => unknown) | undefined;
}

/**
 * What a noun's methods are called on.
 *
 * @internal
 */
export interface Link {
  readonly engine: NativeEngine;
  readonly workspace?: string;
}

/** A group of methods. */
export abstract class Noun {
  /** @internal */
  protected readonly link: Link;

  /** @internal */
  constructor(link: Link) {
    // Not enumerable: an engine that is logged shows what belongs to its user.
    Object.defineProperty(this, 'link', { value: link });
    this.link = link;
  }
}

const CALL_FIELDS: ReadonlySet<string> = new Set(['signal', 'timeLimitMs', 'onEvent']);

/**
 * Options as JSON text, without what belongs to the call, and with the positional arguments.
 *
 * @internal
 */
export function encode(operation: string, options: object, positional: object): string {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidArgument('the options must be an object', operation);
  }
  const fields = Object.entries(options).filter(([name]) => !CALL_FIELDS.has(name));
  const object = { ...Object.fromEntries(fields), ...positional };
  try {
    return JSON.stringify(object, (name, value: unknown) => {
      // JSON has no place for these, and leaving them out in silence would change what was asked for.
      if (typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint') {
        throw invalidArgument(`the field ${name} must not be a ${typeof value}`, operation, { field: name });
      }
      if (typeof value === 'number' && !Number.isFinite(value)) {
        throw invalidArgument(`the field ${name} must be a finite number`, operation, { field: name });
      }
      return value;
    });
  } catch (error) {
    if (error instanceof DunnageError) {
      throw error;
    }
    throw new DunnageError('INVALID_ARGUMENT', 'the options cannot be written as JSON', { operation, cause: error });
  }
}

function timeLimit(operation: string, limit: unknown): number {
  if (limit === undefined) {
    return 0;
  }
  if (typeof limit !== 'number' || !(limit > 0) || !Number.isFinite(limit)) {
    throw invalidArgument('timeLimitMs must be a positive number of milliseconds', operation, {
      timeLimitMs: String(limit),
    });
  }
  return limit;
}

/**
 * Runs one native call under the signal and the time limit of its options, and turns its failure into ours.
 *
 * @internal
 */
export async function run<T>(
  operation: string,
  options: CallOptions,
  start: (call: NativeCall | undefined) => Promise<T>,
  watch?: (call: NativeCall) => void,
  onEvent?: (text: string) => void,
): Promise<T> {
  const { signal } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidArgument('signal must be an AbortSignal', operation);
  }
  const limit = timeLimit(operation, options.timeLimitMs);
  if (signal?.aborted) {
    throw cancelled(operation, signal);
  }
  let call: NativeCall | undefined;
  if (signal !== undefined || limit > 0 || onEvent !== undefined) {
    call = new native.NativeCall(limit, onEvent);
    watch?.(call);
  }
  const abort = (): void => call?.cancel();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    return await start(call);
  } catch (thrown) {
    const error = fromNative(thrown);
    if (signal?.aborted && error instanceof DunnageError && error.code === 'CANCELLED') {
      throw cancelled(error.operation || operation, signal, error.context);
    }
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/**
 * The error of a call that its signal has ended.
 *
 * @internal
 */
export function cancelled(operation: string, signal: AbortSignal, context: Readonly<Record<string, string>> = {}): DunnageError {
  return new DunnageError('CANCELLED', 'the caller cancelled the call', {
    operation,
    context,
    cause: signal.reason as unknown,
  });
}

/**
 * A plain call with JSON both ways.
 *
 * @internal
 */
export async function plain<T>(link: Link, operation: string, positional: object, options: CallOptions): Promise<T> {
  const text = encode(operation, options, positional);
  if ('onEvent' in options && options.onEvent !== undefined) {
    throw invalidArgument('this call has no events: leave onEvent out', operation, { field: 'onEvent' });
  }
  const result = await run(operation, options, (call) => link.engine.call(operation, link.workspace, text, call));
  return (JSON.parse(result) ?? undefined) as T;
}

/**
 * An operation with JSON both ways.
 *
 * @internal
 */
export function operate<T>(
  link: Link,
  operation: string,
  positional: object,
  options: OperationCallOptions,
): Operation<T> {
  return begin(operation, positional, options, (text, call) =>
    link.engine.call(operation, link.workspace, text, call),
  );
}

/**
 * An operation that `start` begins, with its options as JSON text; it resolves with its result as JSON text.
 *
 * @internal
 */
export function begin<T>(
  operation: string,
  positional: object,
  options: OperationCallOptions,
  start: (text: string, call: NativeCall | undefined) => Promise<string>,
): Operation<T> {
  // Options that are no object are refused by the promise, as everything else that is wrong with them.
  return new Operation<T>((options as OperationCallOptions | null)?.onEvent, async (watch, onEvent) => {
    const text = encode(operation, options, positional);
    if (options.onEvent !== undefined && typeof options.onEvent !== 'function') {
      throw invalidArgument('onEvent must be a function', operation, { field: 'onEvent' });
    }
    const result = await run(operation, options, (call) => start(text, call), watch, onEvent);
    return (JSON.parse(result) ?? undefined) as T;
  });
}

/**
 * Bytes as the native half takes them.
 *
 * @internal
 */
export function bytes(operation: string, field: string, data: string | Uint8Array | undefined): Uint8Array {
  if (data === undefined) {
    return Buffer.alloc(0);
  }
  if (typeof data === 'string') {
    return Buffer.from(data, 'utf8');
  }
  if (data instanceof Uint8Array) {
    return data;
  }
  throw invalidArgument(`${field} must be a string, a Buffer or a Uint8Array`, operation, { field });
}
