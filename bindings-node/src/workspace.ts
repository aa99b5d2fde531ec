import type { Link } from './call.js';
import { Exec } from './exec.js';
import { Fs } from './fs.js';
import { WorkspaceOperations } from './generated.js';

/** The handle of one workspace: an id and the engine. Holds nothing open; the workspace need not exist. */
export class Workspace extends WorkspaceOperations {
  /** The workspace's id. */
  readonly id: string;
  /** Commands inside. */
  readonly exec: Exec;
  /** Files inside. */
  readonly fs: Fs;

  /** @internal */
  constructor(link: Link & { workspace: string }) {
    super(link);
    this.id = link.workspace;
    this.exec = new Exec(link);
    this.fs = new Fs(link);
  }
}
