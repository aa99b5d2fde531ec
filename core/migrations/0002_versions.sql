-- The versions of workspaces: a cache of the labels on their committed snapshots, so that a lineage is told without a look at each.
CREATE TABLE versions (
    workspace_id TEXT NOT NULL,
    version      INTEGER NOT NULL,
    container_id TEXT NOT NULL,
    snapshotter  TEXT NOT NULL,
    -- The committed snapshot's name in the snapshotter, and that of the snapshot it stands on.
    snapshot     TEXT NOT NULL,
    parent       TEXT NOT NULL,
    -- Empty where the user gave none.
    display_name TEXT NOT NULL,
    source       TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    -- The version it goes on from, and how many layers it has above the image.
    follows      INTEGER,
    depth        INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, version),
    UNIQUE (workspace_id, snapshot)
) WITHOUT ROWID;

-- Which history the versions are of: where the writable snapshot has another stamp, they are read anew.
CREATE TABLE histories (
    workspace_id TEXT PRIMARY KEY,
    stamp        TEXT NOT NULL
) WITHOUT ROWID;

-- A workspace that is deleted takes its versions along.
CREATE TRIGGER versions_of_deleted AFTER DELETE ON workspaces BEGIN
    DELETE FROM versions WHERE workspace_id = OLD.workspace_id;
    DELETE FROM histories WHERE workspace_id = OLD.workspace_id;
END;
