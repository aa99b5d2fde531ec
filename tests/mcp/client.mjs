// The official client of TypeScript against the MCP server of a workspace.
//
//   node client.mjs stdio PROGRAM [ARGUMENT…]
//   node client.mjs http URL      with the token in $TOKEN
import assert from 'node:assert/strict';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

const [way, target, ...args] = process.argv.slice(2);
const transport =
  way === 'stdio'
    ? new StdioClientTransport({ command: target, args, env: process.env })
    : new StreamableHTTPClientTransport(new URL(target), {
        requestInit: { headers: { Authorization: `Bearer ${process.env.TOKEN}` } },
      });
const client = new Client({ name: 'tests', version: '1.0.0' });
await client.connect(transport);

assert.equal(client.getServerVersion().name, 'dunnage');
const { tools } = await client.listTools();
assert.deepEqual(
  tools.map((tool) => tool.name),
  ['read', 'write', 'list', 'edit', 'exec'],
);
const call = (name, args) => client.callTool({ name, arguments: args });
const wrote = await call('write', { path: `node-${way}`, content: 'say “hi”\n' });
assert.ok(!wrote.isError, JSON.stringify(wrote));
const edited = await call('edit', { path: `node-${way}`, old_text: '"hi"', new_text: 'ho' });
assert.deepEqual(edited.structuredContent, { how: 'similar', line: 1 });
const read = await call('read', { path: `node-${way}` });
assert.equal(read.content[0].text, 'say ho\n');
const missing = await call('edit', { path: 'nowhere', old_text: 'a', new_text: 'b' });
assert.equal(missing.isError, true);
const many = await Promise.all([...Array(40).keys()].map((n) => call('exec', { command: `echo ${n}` })));
many.forEach((done, n) => assert.equal(done.structuredContent.stdout, `${n}\n`));
await assert.rejects(call('fly', {}), (error) => error.code === -32602);
await client.close();
