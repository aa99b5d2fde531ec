// A tour through a workspace's life: create with a progress bar, files, a command, stop, start, delete.
//
// Reads one JSON object from $DUNNAGE_TOUR: {"config": {…}, "image": "…", "workspace": "…"}, where `config` is what
// Engine.open takes. Its last line is a JSON object with the milliseconds of each step.
//
// A program of its own says `import { Engine } from 'dunnage'`; in the repository the package lies next door.
import { Engine } from '../../bindings-node/dist/index.mjs';

const { stdout } = process;

/** Shows an event: the pull as a bar that moves in place on a terminal, everything else as a line. */
function show(event) {
  switch (event.type) {
    case 'pull_progress': {
      const { bytes = 0, total_bytes: total = 0, layers = [] } = event;
      const finished = layers.filter((layer) => layer.offset === layer.total).length;
      const filled = Math.min(30, Math.floor((bytes * 30) / Math.max(total, 1)));
      const bar = '#'.repeat(filled).padEnd(30, '.');
      const mb = (count) => (count / 1e6).toFixed(1);
      const rate = (bytes / 1e3 / Math.max(event.elapsed_ms, 1)).toFixed(0);
      const line = `  [${bar}] ${finished}/${layers.length} layers  ${mb(bytes)}/${mb(total)} MB  ${rate} MB/s`;
      if (stdout.isTTY) {
        stdout.write(`\r${line}\x1b[K`);
      } else if (event.unpacked_bytes === total) {
        console.log(line);
      }
      break;
    }
    case 'creating':
      if (stdout.isTTY) {
        stdout.write('\n');
      }
      break;
    case 'error':
      console.log(`\n  ${event.message}`);
      break;
  }
}

const steps = [];
let since = performance.now();

/** Tells that a step is done, and how long it took. */
function done(name, what = '') {
  const ms = Math.round((performance.now() - since) * 10) / 10;
  console.log(`  ${name.padEnd(7)} ${ms.toFixed(1).padStart(8)} ms  ${what}`);
  steps.push({ name, ms });
  since = performance.now();
}

if (!process.env.DUNNAGE_TOUR) {
  throw new Error('set DUNNAGE_TOUR to {"config": {…}, "image": "…"}, or run scripts/quickstart, which does');
}
const tour = JSON.parse(process.env.DUNNAGE_TOUR);
const engine = await Engine.open(tour.config);
const workspace = engine.workspace(tour.workspace ?? 'tour-node');
since = performance.now();

// Ctrl-C cancels the creation, which undoes what it has begun.
const interrupt = new AbortController();
const onInterrupt = () => interrupt.abort();
process.once('SIGINT', onInterrupt);
const creating = workspace.create({ image: tour.image, signal: interrupt.signal });
for await (const event of creating) {
  show(event);
}
const created = await creating;
process.off('SIGINT', onInterrupt);
done('create', `${created.container_id} from ${created.image}`);

await workspace.fs.write('poem.txt', 'Packed with care,\nthe cargo stays whole.\n');
done('write', '/data/poem.txt');
const read = await workspace.fs.readText('/data/poem.txt');
done('read', `${read.total_lines} lines`);

const output = await workspace.exec.run('wc -c < poem.txt; uname -m');
done('run', `${output.stdout.toString().split(/\s+/).join(' ').trim()} (exit code ${output.exit_code})`);

const info = await workspace.info();
done('info', `${info.status}, pid ${info.pid}, ${info.network.addresses[0] ?? 'no address'}`);

const stopped = await workspace.stop();
done('stop', stopped.outcome);
const started = await workspace.start();
done('start', started.outcome);
const again = await workspace.fs.readText('poem.txt');
if (again.content !== read.content) {
  throw new Error('the file changed while the workspace was stopped');
}
await workspace.delete();
done('delete');
await engine.close();

console.log(JSON.stringify({ language: 'node', steps }));
