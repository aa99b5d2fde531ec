import { ERROR_NUMBERS, type ErrorCode } from './types.js';

/** The error of the native half, as its message carries it. */
interface WireError {
  code: ErrorCode;
  number: number;
  operation: string;
  message: string;
  context: Record<string, string>;
  causes?: string[];
}

/** What a {@link DunnageError} is made of. */
export interface DunnageErrorFields {
  /** The operation that failed, as `noun.verb`. */
  operation?: string;
  /** Ids, paths and numbers that belong to the fault. */
  context?: Readonly<Record<string, string>>;
  /** What caused it. */
  cause?: unknown;
}

/**
 * Every failure of the library. `code` tells a program what it can do next; the message tells a person what happened.
 */
export class DunnageError extends Error {
  /** The stable name of the kind, such as `NOT_FOUND`. */
  readonly code: ErrorCode;
  /** The stable number of the kind, the same in every language; never 0. */
  readonly number: number;
  /** The operation that failed, as `noun.verb`; empty when it failed outside of one. */
  readonly operation: string;
  /** Ids, paths and numbers that belong to the fault. */
  readonly context: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, message: string, fields: DunnageErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = code;
    this.number = ERROR_NUMBERS[code];
    this.operation = fields.operation ?? '';
    this.context = Object.freeze({ ...fields.context });
  }

  /** The error as the JSON object that it is in every language. */
  toJSON(): object {
    const { code, number, operation, message, context } = this;
    return { code, number, operation, message, context };
  }
}

// On the prototype, where the names of the built-in errors are too: it is then no field of each error.
Object.defineProperty(DunnageError.prototype, 'name', { value: 'DunnageError', configurable: true, writable: true });

/**
 * The error that the native half threw, as ours. Anything else passes through.
 *
 * @internal
 */
export function fromNative(error: unknown): unknown {
  if (!(error instanceof Error) || !error.message.startsWith('{')) {
    return error;
  }
  let wire: WireError;
  try {
    wire = JSON.parse(error.message) as WireError;
  } catch {
    return error;
  }
  if (!(wire.code in ERROR_NUMBERS)) {
    return error;
  }
  const cause = (wire.causes ?? []).reduceRight<Error | undefined>(
    (cause, message) => {
      const error = cause === undefined ? new Error(message) : new Error(message, { cause });
      // It came about in the library: where this side read it tells nothing.
      error.stack = `Error: ${message}`;
      return error;
    },
    undefined,
  );
  return new DunnageError(wire.code, wire.message, { operation: wire.operation, context: wire.context, cause });
}

/**
 * An INVALID_ARGUMENT error of this side.
 *
 * @internal
 */
export function invalidArgument(message: string, operation: string, context: Record<string, string> = {}): DunnageError {
  return new DunnageError('INVALID_ARGUMENT', message, { operation, context });
}
