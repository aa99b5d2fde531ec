import { AsyncResource } from 'node:async_hooks';
import { DunnageError } from './error.js';
import type { Event } from './types.js';
import type { NativeCall } from './native.js';

/** What an operation does. */
export type OperationStatus = 'running' | 'succeeded' | 'failed' | 'cancelled';

/** Starts the operation's call; `watch` gets its handle before it begins. */
type Start<T> = (watch: (call: NativeCall) => void, onEvent: (text: string) => void) => Promise<T>;

/** Adds an event; progress that nobody has taken yet gives way to newer progress. */
function add(events: Event[], event: Event): void {
  if (event.type === 'pull_progress' && events.at(-1)?.type === 'pull_progress') {
    events.pop();
  }
  events.push(event);
}

/** The events of an operation for one reader. */
class EventReader implements AsyncIterableIterator<Event> {
  readonly #waiting: Event[];
  readonly #forget: (reader: EventReader) => void;
  #takers: { resolve: (result: IteratorResult<Event>) => void; reject: (error: unknown) => void }[] = [];
  #ended: { error?: unknown } | undefined;

  constructor(history: readonly Event[], ended: { error?: unknown } | undefined, forget: (reader: EventReader) => void) {
    this.#waiting = [...history];
    this.#ended = ended;
    this.#forget = forget;
  }

  push(event: Event): void {
    const taker = this.#takers.shift();
    if (taker === undefined) {
      add(this.#waiting, event);
    } else {
      taker.resolve({ done: false, value: event });
    }
  }

  end(ended: { error?: unknown }): void {
    this.#ended = ended;
    for (const taker of this.#takers.splice(0)) {
      this.#finish(taker.resolve, taker.reject);
    }
  }

  next(): Promise<IteratorResult<Event>> {
    return new Promise((resolve, reject) => {
      const event = this.#waiting.shift();
      if (event !== undefined) {
        resolve({ done: false, value: event });
      } else if (this.#ended === undefined) {
        this.#takers.push({ resolve, reject });
      } else {
        this.#finish(resolve, reject);
      }
    });
  }

  return(): Promise<IteratorResult<Event>> {
    this.#waiting.length = 0;
    this.#forget(this);
    this.end({});
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Tells the end; a failure is told once. */
  #finish(resolve: (result: IteratorResult<Event>) => void, reject: (error: unknown) => void): void {
    const ended = this.#ended;
    if (ended !== undefined && 'error' in ended) {
      this.#ended = {};
      reject(ended.error);
    } else {
      resolve({ done: true, value: undefined });
    }
  }
}

/**
 * A multi-step write under way. It has begun when it is returned.
 *
 * Await it for its result, iterate it for its events (`for await (const event of operation)`), or both. The events come
 * from the first on, however late the iteration begins; progress that was not taken gives way to newer progress. When
 * the operation fails, the iteration throws its error after the last event.
 *
 * Leaving it alone, or breaking out of the iteration, never stops the operation: only {@link Operation.cancel}, the
 * call's `signal`, its time limit and the closing of the engine do.
 */
export class Operation<T> implements Promise<T>, AsyncIterable<Event> {
  readonly #promise: Promise<T>;
  readonly #history: Event[] = [];
  readonly #readers = new Set<EventReader>();
  #ended: { error?: unknown } | undefined;
  #call: NativeCall | undefined;
  #id: string | undefined;
  #status: OperationStatus = 'running';

  /** @internal */
  constructor(onEvent: ((event: Event) => unknown) | undefined, start: Start<T>) {
    // The callback runs in the caller's asynchronous context, not in that of the addon.
    let callback = typeof onEvent === 'function' ? AsyncResource.bind(onEvent) : undefined;
    const complain = (error: unknown): void => {
      if (callback !== undefined) {
        callback = undefined;
        warn(error);
      }
    };
    const take = (text: string): void => {
      const event = JSON.parse(text) as Event;
      this.#id ??= event.operation_id;
      add(this.#history, event);
      for (const reader of this.#readers) {
        reader.push(event);
      }
      try {
        const returned: unknown = callback?.(event);
        if (isThenable(returned)) {
          returned.then(undefined, complain);
        }
      } catch (error) {
        complain(error);
      }
    };
    this.#promise = start((call) => (this.#call = call), take).then(
      (result) => {
        this.#finish('succeeded', {});
        return result;
      },
      (error: unknown) => {
        const wasCancelled = error instanceof DunnageError && error.code === 'CANCELLED';
        this.#finish(wasCancelled ? 'cancelled' : 'failed', { error });
        throw error;
      },
    );
  }

  #finish(status: OperationStatus, ended: { error?: unknown }): void {
    this.#status = status;
    this.#ended = ended;
    for (const reader of this.#readers) {
      reader.end(ended);
    }
    this.#readers.clear();
  }

  /** The operation's id, unique for good; undefined until its first event. */
  get id(): string | undefined {
    return this.#id;
  }

  /** What it does now. */
  get status(): OperationStatus {
    return this.#status;
  }

  /**
   * Asks it to undo what it did and to reject with CANCELLED. Past its point of no return it completes instead. Returns
   * at once; may be called again.
   */
  cancel(): void {
    this.#call?.cancel();
  }

  /** Its events, from the first to the terminal one. Each iteration sees them all. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Event> {
    // The iteration tells of a failure: a program that only iterates has not left it unhandled.
    this.#promise.catch(() => undefined);
    const reader = new EventReader(this.#history, this.#ended, (reader) => this.#readers.delete(reader));
    if (this.#ended === undefined) {
      this.#readers.add(reader);
    }
    return reader;
  }

  then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#promise.then(onFulfilled, onRejected);
  }

  catch<B = never>(onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<T | B> {
    return this.#promise.catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<T> {
    return this.#promise.finally(onFinally);
  }

  get [Symbol.toStringTag](): string {
    return 'Operation';
  }
}

/** Tells of a callback that threw, without disturbing anything else. */
function warn(error: unknown): void {
  const said = error instanceof Error ? error.message : String(error);
  const warning = new Error(`an onEvent callback threw and is not called again: ${said}`, { cause: error });
  warning.name = 'DunnageWarning';
  if (error instanceof Error && error.stack !== undefined) {
    warning.stack = `${warning.name}: ${warning.message}\n${error.stack}`;
  }
  process.emitWarning(warning);
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
