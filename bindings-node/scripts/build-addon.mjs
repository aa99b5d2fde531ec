// Builds the addon by cargo and puts it where the package loads it from. `DUNNAGE_PROFILE` is cargo's profile: `release`
// by default, `dev` for a quick build.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('..', import.meta.url));
const profile = process.env.DUNNAGE_PROFILE ?? 'release';

const cargo = spawnSync(
  'cargo',
  ['build', '--package', 'dunnage-node', '--profile', profile, '--message-format', 'json-render-diagnostics'],
  { cwd: here, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 1 << 28 },
);
if (cargo.error) {
  throw cargo.error;
}
if (cargo.status !== 0) {
  process.exit(cargo.status ?? 1);
}
// Cargo tells where it put the library: the target directory may be anywhere.
const built = cargo.stdout
  .split('\n')
  .filter((line) => line.startsWith('{'))
  .map((line) => JSON.parse(line))
  .filter((message) => message.reason === 'compiler-artifact' && message.target.name === 'dunnage_node')
  .flatMap((message) => message.filenames)
  .find((name) => name.endsWith('.so'));
if (built === undefined) {
  throw new Error('cargo made no library for the package dunnage-node');
}
mkdirSync(join(here, 'native'), { recursive: true });
// By a rename: a process that has the old addon loaded keeps it whole.
const addon = join(here, 'native', 'dunnage.node');
copyFileSync(built, `${addon}.new`);
renameSync(`${addon}.new`, addon);
console.log(`made ${addon}`);
