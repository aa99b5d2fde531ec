import type { Link } from './call.js';
import { Data } from './data.js';
import { Exec } from './exec.js';
import { Fs } from './fs.js';
import { SnapshotsOperations, WorkspaceOperations } from './generated.js';

/** The versions of a workspace. */
export class Snapshots extends SnapshotsOperations {}

/** The handle of one workspace: an id and the engine. Holds nothing open; the workspace need not exist. */
export class Workspace extends WorkspaceOperations {
  /** The workspace's id. */
  readonly id: string;
  /** Commands inside. */
  readonly exec: Exec;
  /** Its data directory: taken out, put in, preserved. */
  readonly data: Data;
  /** Files inside. */
  readonly fs: Fs;
  /** Versions. */
  readonly snapshots: Snapshots;

  /** @internal */
  constructor(link: Link & { workspace: string }) {
    super(link);
    this.id = link.workspace;
    this.exec = new Exec(link);
    this.data = new Data(link);
    this.fs = new Fs(link);
    this.snapshots = new Snapshots(link);
  }
}
