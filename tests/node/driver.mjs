// Runs the behaviour cases through the public face of the package; tests/behavior/README.md tells how.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Engine } from '../../bindings-node/dist/index.mjs';
import { at, fill } from './lib/match.mjs';
import { native } from './lib/native.mjs';
import { runStep } from './lib/steps.mjs';

async function cases() {
  if (process.env.DUNNAGE_TEST_CASES) {
    return JSON.parse(readFileSync(process.env.DUNNAGE_TEST_CASES, 'utf8'));
  }
  const packageJson = fileURLToPath(new URL('../../bindings-node/package.json', import.meta.url));
  const { parse } = await import(createRequire(packageJson).resolve('smol-toml'));
  return parse(readFileSync(new URL('../behavior/cases.toml', import.meta.url), 'utf8'));
}

function environment() {
  const text = process.env.DUNNAGE_TEST_ENV;
  if (!text) {
    throw new Error('DUNNAGE_TEST_ENV is not set: start `dunnage-harness serve` and pass on what it prints');
  }
  const env = JSON.parse(text);
  env.runtime_dir ??= process.env.DUNNAGE_RUNTIME_DIR;
  return env;
}

/** Runs one case; resolves with why it was skipped, if it was. */
async function runCase(one, engine, config, env) {
  if (one.except?.node !== undefined) {
    return one.except.node;
  }
  const missing = (one.needs ?? []).find((path) => at(env, path) === undefined || at(env, path) === null);
  if (missing !== undefined) {
    return `the environment has no ${missing}`;
  }
  const tmp = mkdtempSync(join(tmpdir(), 'dunnage-node-'));
  const fresh = () => `node-${randomBytes(5).toString('hex')}`;
  const variables = { ws: fresh(), ws2: fresh(), tmp, lang: 'node' };
  const named = new Set();
  try {
    if (one.native) {
      const run = native[one.id];
      if (run === undefined) {
        throw new Error('nothing implements it');
      }
      return await run({ engine, config, env, tmp, fresh, named });
    }
    const scopes = [{}, variables, env];
    for (const step of one.step) {
      await runStep(step, engine, config, scopes, named);
    }
    return undefined;
  } finally {
    for (const id of named) {
      // A case may have named an id that no workspace can have.
      await Promise.resolve()
        .then(() => engine.workspace(id).delete({ grace_ms: 0 }))
        .catch(() => undefined);
    }
    rmSync(tmp, { recursive: true, force: true });
  }
}

async function main() {
  const { config: pattern, case: list } = await cases();
  const env = environment();
  const config = fill(pattern, [env]);
  const engine = await Engine.open(config);
  const only = process.env.DUNNAGE_TEST_ONLY ?? '';
  const count = { passed: 0, failed: 0, skipped: 0 };
  for (const one of list.filter((one) => one.id.includes(only))) {
    try {
      const skipped = await runCase(one, engine, config, env);
      if (skipped === undefined) {
        count.passed += 1;
        console.log(`ok ${one.id}`);
      } else {
        count.skipped += 1;
        console.log(`skip ${one.id} ${skipped}`);
      }
    } catch (error) {
      count.failed += 1;
      console.log(`FAIL ${one.id} ${error.message.replaceAll('\n', ' ')}`);
      if (process.env.DUNNAGE_TEST_VERBOSE) {
        console.error(error);
      }
    }
  }
  await engine.close();
  console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
  // Not process.exit: that the process ends by itself is part of what is tested.
  process.exitCode = count.failed > 0 ? 1 : 0;
}

main().catch((error) => {
  console.error(`cannot begin: ${error.message}`);
  process.exitCode = 2;
});
