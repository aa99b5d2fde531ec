import { type CallOptions, type Link, cancelled, encode, run } from './call.js';
import { fromNative, invalidArgument } from './error.js';
import type { NativeEngine, NativeItems } from './native.js';

type Taker<T> = { resolve: (result: IteratorResult<T>) => void; reject: (error: unknown) => void };

/** What a request for an item came to. */
type Told = { item?: unknown; error?: string };

/** The longest that a timer may be set for: one that is only there to keep the event loop alive. */
const LONG_MS = 2 ** 31 - 1;

/**
 * The items of an operation, one at a time and in order: `for await (const item of items)`. An item is made when it is
 * asked for, so a consumer that is slow holds up nothing else.
 *
 * They end by themselves, when the loop is left, with `return()` and `await using`, with the signal, with the closing of
 * the engine, and when nobody refers to them any more. Waiting for an item keeps the process alive, unless `unref()` was called.
 */
export class Items<T> implements AsyncIterableIterator<T>, AsyncDisposable {
  /** Resolves when the operation has begun; rejects, as the first `next()` does, when it could not. */
  readonly opened: Promise<void>;
  readonly #native: Promise<NativeItems>;
  /** Held, since an engine that is lost ends its items. */
  readonly #engine: NativeEngine;
  readonly #forget: () => void;
  readonly #takers: Taker<T>[] = [];
  #requested = false;
  #ended = false;
  #error: { error: unknown } | undefined;
  #alive: NodeJS.Timeout | undefined;
  #refed = true;

  /** @internal */
  constructor(
    engine: NativeEngine,
    operation: string,
    signal: AbortSignal | undefined,
    open: (onItem: (told: string) => void) => Promise<NativeItems>,
  ) {
    this.#engine = engine;
    // Held weakly by the native half: otherwise each would keep the other for ever.
    const weak = new WeakRef(this);
    this.#native = open((told) => {
      const items = weak.deref();
      if (items !== undefined) {
        items.#arrive(JSON.parse(told) as Told);
      }
    });
    this.opened = this.#native.then(() => undefined);
    // Who iterates is told by the iteration.
    this.opened.catch(() => undefined);
    const abort = (): void => {
      const items = weak.deref();
      if (items !== undefined && signal !== undefined) {
        items.#finish({ error: cancelled(operation, signal) });
      }
    };
    this.#forget = () => signal?.removeEventListener('abort', abort);
    if (signal instanceof AbortSignal) {
      signal.addEventListener('abort', abort, { once: true });
    }
  }

  /** The next item; done after the last one. */
  next(): Promise<IteratorResult<T>> {
    return new Promise((resolve, reject) => {
      this.#takers.push({ resolve, reject });
      if (this.#ended) {
        this.#settle();
      } else {
        this.#request();
      }
    });
  }

  /** Ends the items. May be called again. */
  return(): Promise<IteratorResult<T>> {
    this.#finish(undefined);
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Lets waiting for an item keep the process alive, as it does at first. */
  ref(): this {
    this.#refed = true;
    this.#alive?.ref();
    return this;
  }

  /** Lets the process end although an item is waited for. */
  unref(): this {
    this.#refed = false;
    this.#alive?.unref();
    return this;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** As {@link Items.return}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #request(): void {
    if (this.#requested) {
      return;
    }
    this.#requested = true;
    // Whoever waits is held by this object alone: the timer holds it, and the loop, until the item has come.
    this.#alive = setInterval(() => void this.#engine, LONG_MS);
    if (!this.#refed) {
      this.#alive.unref();
    }
    this.#native.then(
      (native) => native.request(),
      (error: unknown) => this.#finish({ error }),
    );
  }

  #arrive(told: Told): void {
    this.#requested = false;
    clearInterval(this.#alive);
    if (this.#ended) {
      return;
    }
    if (!('item' in told)) {
      this.#finish(told.error === undefined ? undefined : { error: fromNative(new Error(told.error)) });
      return;
    }
    this.#takers.shift()?.resolve({ done: false, value: told.item as T });
    if (this.#takers.length > 0) {
      this.#request();
    }
  }

  #finish(error: { error: unknown } | undefined): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    this.#error = error;
    clearInterval(this.#alive);
    this.#forget();
    this.#native.then(
      (native) => native.close(),
      () => undefined,
    );
    this.#settle();
  }

  /** After the end: the first who asks is told of the error, all others that there is nothing more. */
  #settle(): void {
    for (const taker of this.#takers.splice(0)) {
      const error = this.#error;
      this.#error = undefined;
      if (error === undefined) {
        taker.resolve({ done: true, value: undefined });
      } else {
        taker.reject(error.error);
      }
    }
  }
}

/**
 * A call that yields items.
 *
 * @internal
 */
export function items<T>(link: Link, operation: string, positional: object, options: CallOptions): Items<T> {
  // Options that are no object are refused by the iteration, as everything else that is wrong with them.
  const signal = (options as CallOptions | null)?.signal;
  return new Items<T>(link.engine, operation, signal, async (onItem) => {
    const text = encode(operation, options, positional);
    if ('onEvent' in options && options.onEvent !== undefined) {
      throw invalidArgument('this call has no events: leave onEvent out', operation, { field: 'onEvent' });
    }
    return run(operation, options, (call) => link.engine.items(operation, link.workspace, text, call, onItem));
  });
}
