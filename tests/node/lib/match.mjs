// Variables and matching of the behaviour cases, as tests/behavior/README.md tells them.
import { isDeepStrictEqual } from 'node:util';

/** The value at a dotted path, or undefined. */
export function at(object, path) {
  return path.split('.').reduce((value, key) => (value === null || value === undefined ? undefined : value[key]), object);
}

/** Replaces `${…}` in every string of a value; `scopes` are searched in order. */
export function fill(value, scopes) {
  if (typeof value === 'string') {
    const lookUp = (path) => {
      for (const scope of scopes) {
        const found = at(scope, path);
        if (found !== undefined && found !== null) {
          return found;
        }
      }
      throw new Error(`unknown variable \${${path}}`);
    };
    const whole = /^\$\{([^}]+)\}$/.exec(value);
    if (whole) {
      return lookUp(whole[1]);
    }
    return value.replace(/\$\{([^}]+)\}/g, (_, path) => String(lookUp(path)));
  }
  if (Array.isArray(value)) {
    return value.map((item) => fill(item, scopes));
  }
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fill(item, scopes)]));
  }
  return value;
}

/** Puts one object's fields over another's, through all levels. */
export function merge(base, over) {
  const plain = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!plain(base) || !plain(over)) {
    return over;
  }
  const merged = { ...base };
  for (const [key, value] of Object.entries(over)) {
    merged[key] = merge(base[key], value);
  }
  return merged;
}

function show(value) {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

/** What does not match, as text; undefined when all does. */
export function mismatch(expected, actual, path = 'result') {
  const wrong = () => `${path} is ${show(actual)}, expected ${show(expected)}`;
  if (typeof expected === 'string') {
    return matchesPattern(expected, actual) ? undefined : wrong();
  }
  if (Array.isArray(expected)) {
    if (!Array.isArray(actual)) {
      return wrong();
    }
    if (expected[0] === '...') {
      const missing = expected.slice(1).find((one) => !actual.some((item) => mismatch(one, item) === undefined));
      return missing === undefined ? undefined : `${path} has no element like ${show(missing)}: ${show(actual)}`;
    }
    if (expected.length !== actual.length) {
      return wrong();
    }
    return first(expected.map((one, index) => () => mismatch(one, actual[index], `${path}[${index}]`)));
  }
  if (typeof expected === 'object' && expected !== null) {
    if (typeof actual !== 'object' || actual === null) {
      return wrong();
    }
    return first(Object.entries(expected).map(([key, one]) => () => mismatch(one, actual[key], `${path}.${key}`)));
  }
  return isDeepStrictEqual(expected, actual) ? undefined : wrong();
}

function first(checks) {
  for (const check of checks) {
    const found = check();
    if (found !== undefined) {
      return found;
    }
  }
  return undefined;
}

function matchesPattern(pattern, actual) {
  const absent = actual === null || actual === undefined;
  if (pattern === '*') {
    return !absent;
  }
  if (pattern === '!') {
    return absent;
  }
  if (pattern.startsWith('~')) {
    return typeof actual === 'string' && actual.includes(pattern.slice(1));
  }
  if (pattern.startsWith('>=')) {
    return typeof actual === 'number' && actual >= Number(pattern.slice(2));
  }
  if (pattern.startsWith('<=')) {
    return typeof actual === 'number' && actual <= Number(pattern.slice(2));
  }
  return actual === (pattern.startsWith('=') ? pattern.slice(1) : pattern);
}

/** Whether bytes match a pattern for output. */
export function outputMatches(pattern, text) {
  if (pattern === '*') {
    return text.length > 0;
  }
  if (pattern.startsWith('~')) {
    return text.includes(pattern.slice(1));
  }
  return text === (pattern.startsWith('=') ? pattern.slice(1) : pattern);
}

/** What is wrong with the types of events that came; undefined when nothing is. */
export function eventsMismatch(expected, types) {
  const runs = types.filter((type, index) => type !== types[index - 1]);
  let next = 0;
  for (const one of expected) {
    const optional = one.endsWith('?');
    if (runs[next] === (optional ? one.slice(0, -1) : one)) {
      next += 1;
    } else if (!optional) {
      return `the events are ${runs.join(' ')}, expected ${expected.join(' ')}`;
    }
  }
  return next === runs.length ? undefined : `the events are ${runs.join(' ')}, expected ${expected.join(' ')}`;
}

/** What is wrong with the events of a call that ended with `error`, or without one; undefined when nothing is. */
export function eventsFault(events, error) {
  const terminal = (event) => event.type === 'complete' || event.type === 'error';
  if (events.filter(terminal).length !== 1 || !terminal(events.at(-1))) {
    return `not exactly one terminal event at the end: ${events.map((event) => event.type).join(' ')}`;
  }
  const last = events.at(-1);
  if ((last.type === 'complete') !== (error === undefined)) {
    return `the last event is ${last.type}, and the call ${error === undefined ? 'succeeded' : 'failed'}`;
  }
  if (error !== undefined && last.code !== error.code) {
    return `the last event's code is ${last.code}, the call's ${error.code}`;
  }
  if (new Set(events.map((event) => event.operation_id)).size !== 1) {
    return 'the events have several operation ids';
  }
  const seen = { elapsed_ms: 0, bytes: 0, unpacked_bytes: 0 };
  const layers = new Map();
  for (const event of events) {
    for (const field of Object.keys(seen)) {
      if ((event[field] ?? seen[field]) < seen[field]) {
        return `${field} fell from ${seen[field]} to ${event[field]}`;
      }
      seen[field] = event[field] ?? seen[field];
    }
    if (event.layers === undefined) {
      continue;
    }
    const now = new Map(event.layers.map((layer) => [layer.ref, layer]));
    for (const [ref, before] of layers) {
      if (!now.has(ref)) {
        return `the layer ${ref} disappeared`;
      }
      if (now.get(ref).offset < before.offset) {
        return `the offset of ${ref} fell`;
      }
    }
    for (const [ref, layer] of now) {
      if (layer.offset > layer.total) {
        return `the offset of ${ref} is over its total`;
      }
      layers.set(ref, layer);
    }
  }
  return undefined;
}
