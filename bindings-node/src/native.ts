import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** One call's watcher, token and time limit. */
export interface NativeCall {
  cancel(): void;
}

/** A piece of a command's output. */
export interface NativeChunk {
  stderr: boolean;
  data: Buffer;
}

/** A command with its streams open. */
export interface NativeProcess {
  readonly pid: number | null;
  readonly sessionId: string | null;
  detach(): void;
  discardOutput(): void;
  nextOutput(): Promise<NativeChunk | null>;
  writeStdin(data: Uint8Array): Promise<void>;
  closeStdin(): Promise<void>;
  resize(cols: number, rows: number): void;
  signal(signal: string): Promise<void>;
  wait(): Promise<string>;
  kill(): Promise<string>;
}

/** A file that is open for reading. */
export interface NativeFileReader {
  next(): Promise<Buffer | null>;
  close(): void;
}

/** A file that is open for writing. */
export interface NativeFileWriter {
  write(data: Uint8Array): Promise<void>;
  finish(): Promise<string>;
  abort(): Promise<void>;
}

/** An export that goes into a stream. */
export interface NativeDataExport {
  next(): Promise<Buffer | null>;
  result(): Promise<string>;
}

/** An import that comes from a stream. */
export interface NativeDataImport {
  write(data: Uint8Array): Promise<void>;
  finish(): Promise<void>;
  fail(message: string, errno: number | undefined): void;
  result(): Promise<string>;
}

/** Items of an operation. */
export interface NativeItems {
  request(): void;
  close(): void;
}

/** A command that has run. */
export interface NativeOutput {
  result: string;
  stdout: Buffer;
  stderr: Buffer;
}

/** An engine. */
export interface NativeEngine {
  checkWorkspaceId(id: string): void;
  call(
    operation: string,
    workspace: string | undefined,
    options: string,
    call: NativeCall | undefined,
  ): Promise<string>;
  items(
    operation: string,
    workspace: string | undefined,
    options: string,
    call: NativeCall | undefined,
    onItem: (told: string) => void,
  ): Promise<NativeItems>;
  close(): Promise<void>;
  dataExportStream(workspace: string, options: string, call?: NativeCall): NativeDataExport;
  dataImportStream(workspace: string, options: string, call?: NativeCall): NativeDataImport;
  execRun(workspace: string, options: string, input: Uint8Array, call?: NativeCall): Promise<NativeOutput>;
  execSpawn(workspace: string, options: string, call?: NativeCall): Promise<NativeProcess>;
  execAttach(workspace: string, options: string, call?: NativeCall): Promise<NativeProcess>;
  fsRead(workspace: string, options: string, call?: NativeCall): Promise<Buffer>;
  fsWrite(workspace: string, options: string, content: Uint8Array, call?: NativeCall): Promise<string>;
  fsOpenRead(workspace: string, options: string, call?: NativeCall): Promise<NativeFileReader>;
  fsOpenWrite(workspace: string, options: string, call?: NativeCall): Promise<NativeFileWriter>;
}

/** What the addon exports. */
export interface Native {
  NativeCall: new (timeLimitMs: number, onEvent?: (event: string) => void) => NativeCall;
  openEngine(config: string | undefined, file: string | undefined): Promise<NativeEngine>;
  libraryVersion(): string;
}

const addon = join(__dirname, '..', 'native', 'dunnage.node');

function load(): Native {
  if (!existsSync(addon)) {
    throw new Error(`the addon is missing: run "npm run build" in the package's folder, which makes ${addon}`);
  }
  return require(addon) as Native;
}

/** The addon. */
export const native: Native = load();

/** The directory of the agent that this package ships, if it ships one. */
export function shippedRuntime(): string | undefined {
  const dir = join(__dirname, '..', 'runtime');
  return existsSync(join(dir, 'bridge')) ? dir : undefined;
}
