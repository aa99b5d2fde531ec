-- One row a workspace: a cache of what the backend knows, and what the user wanted.
CREATE TABLE workspaces (
    workspace_id    TEXT PRIMARY KEY NOT NULL,
    container_id    TEXT NOT NULL,
    image           TEXT NOT NULL,
    namespace       TEXT NOT NULL,
    snapshotter     TEXT NOT NULL,
    snapshot_key    TEXT NOT NULL,
    container_path  TEXT NOT NULL,
    -- Whether it is to run: false once a user has stopped it.
    auto_start      INTEGER NOT NULL,
    -- The options of its creation, as JSON, for making its container anew.
    options         TEXT NOT NULL,
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL,
    last_started_at TEXT,
    last_stopped_at TEXT
);

-- The image last chosen for an id; outlives the workspace.
CREATE TABLE image_preferences (
    workspace_id TEXT PRIMARY KEY NOT NULL,
    image        TEXT NOT NULL
);

-- The journal: what is under way, with every generated name, so that another process can finish or undo it.
CREATE TABLE operations (
    id           TEXT PRIMARY KEY NOT NULL,
    kind         TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    -- The names it generated, as JSON.
    intent       TEXT NOT NULL,
    started_at   TEXT NOT NULL
);
CREATE INDEX operations_by_workspace ON operations (workspace_id);
