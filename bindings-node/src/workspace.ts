import type { Link } from './call.js';
import { Data } from './data.js';
import { Exec } from './exec.js';
import { Fs } from './fs.js';
import { McpOperations, SkillsOperations, SnapshotsOperations, ToolsOperations, WorkspaceOperations } from './generated.js';

/** MCP servers that run inside a workspace. */
export class Mcp extends McpOperations {}

/** The skills of a workspace: folders with a `SKILL.md`. */
export class Skills extends SkillsOperations {}

/** The versions of a workspace. */
export class Snapshots extends SnapshotsOperations {}

/** Tools for language models that work inside a workspace. */
export class Tools extends ToolsOperations {}

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
  /** MCP servers inside. */
  readonly mcp: Mcp;
  /** Its skills. */
  readonly skills: Skills;
  /** Versions. */
  readonly snapshots: Snapshots;
  /** Tools for language models. */
  readonly tools: Tools;

  /** @internal */
  constructor(link: Link & { workspace: string }) {
    super(link);
    this.id = link.workspace;
    this.exec = new Exec(link);
    this.data = new Data(link);
    this.fs = new Fs(link);
    this.mcp = new Mcp(link);
    this.skills = new Skills(link);
    this.snapshots = new Snapshots(link);
    this.tools = new Tools(link);
  }
}
