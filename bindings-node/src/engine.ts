import { encode, run } from './call.js';
import { fromNative, invalidArgument } from './error.js';
import { type Config, EngineOperations, ImageOperations } from './generated.js';
import { native, type NativeEngine, shippedRuntime } from './native.js';
import { Workspace } from './workspace.js';

/** The images of an engine's backend. */
export class Images extends ImageOperations {}

/**
 * Keeps workspaces: the library's entry point.
 *
 * One engine serves a whole program; several, in one process, in its worker threads or in many processes, may share one
 * `data_root`. An engine that was not closed does not keep the process alive.
 */
export class Engine extends EngineOperations implements AsyncDisposable {
  /** The version of the library. */
  static readonly version: string = native.libraryVersion();

  /** The images of this engine's backend. */
  readonly image: Images;

  private constructor(engine: NativeEngine) {
    const link = { engine };
    super(link);
    this.image = new Images(link);
  }

  /**
   * Opens an engine: checks the configuration, reaches the backend, opens the records, and finishes or undoes what an
   * earlier process left unfinished.
   *
   * @param config The configuration; or the path of a configuration file, TOML or JSON; or nothing: then the file named
   * by `$DUNNAGE_CONFIG`, and each `DUNNAGE_…` variable that is set over it.
   * @throws {DunnageError} INVALID_ARGUMENT for a malformed setting, named; NOT_FOUND for a missing file; UNAVAILABLE
   * when no backend answers, with what was tried; PERMISSION_DENIED on its socket or on `data_root`.
   */
  static async open(config?: Config | string): Promise<Engine> {
    const operation = 'engine.open';
    if (config === null || !['undefined', 'string', 'object'].includes(typeof config)) {
      throw invalidArgument('the configuration must be an object or the path of a file', operation);
    }
    let text: string | undefined;
    if (typeof config === 'object') {
      const runtime = config.runtime_dir === undefined ? shippedRuntime() : undefined;
      text = encode(operation, config, runtime === undefined ? {} : { runtime_dir: runtime });
    }
    const file = typeof config === 'string' ? config : undefined;
    return new Engine(await run(operation, {}, () => native.openEngine(text, file)));
  }

  /**
   * The handle of a workspace. Does nothing but check the id; the workspace need not exist.
   *
   * @throws {DunnageError} INVALID_ARGUMENT when the id is malformed.
   */
  workspace(id: string): Workspace {
    if (typeof id !== 'string') {
      throw invalidArgument('the workspace id must be a string', 'engine.workspace');
    }
    try {
      this.link.engine.checkWorkspaceId(id);
    } catch (thrown) {
      throw fromNative(thrown);
    }
    return new Workspace({ engine: this.link.engine, workspace: id });
  }

  /**
   * Closes the engine: running operations are cancelled and undone, or, past their point of no return, completed; then
   * connections and files are let go. Workspaces go on running. May be called again.
   */
  async close(): Promise<void> {
    await run('engine.close', {}, () => this.link.engine.close());
  }

  /** As {@link Engine.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
