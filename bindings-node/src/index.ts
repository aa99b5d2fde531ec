/**
 * Long-lived container workspaces, embedded in your program.
 *
 * @packageDocumentation
 */
export type { CallOptions, OperationCallOptions } from './call.js';
export {
  type ArchiveSource,
  Data,
  DataExportStream,
  type ExportStreamOptions,
  type ImportStreamOptions,
} from './data.js';
export { Engine, Images } from './engine.js';
export { DunnageError, type DunnageErrorFields } from './error.js';
export {
  type AttachCallOptions,
  type Command,
  Exec,
  type RunCallOptions,
  type RunResult,
  type SpawnCallOptions,
} from './exec.js';
export { Fs } from './fs.js';
export * from './generated.js';
export { Items } from './items.js';
export { Operation, type OperationStatus } from './operation.js';
export { Process } from './process.js';
export { FileReadStream, FileWriteStream } from './streams.js';
export { Mcp, Skills, Snapshots, Tools, Workspace } from './workspace.js';
