-- What happened to workspaces, in the order in which it was written down.
CREATE TABLE events (
    -- The next event has the next number: nothing but the oldest is ever removed.
    sequence     INTEGER PRIMARY KEY NOT NULL,
    at           TEXT NOT NULL,
    kind         TEXT NOT NULL,
    -- None for what belongs to no workspace.
    workspace_id TEXT,
    -- The fields that are known besides, as JSON.
    detail       TEXT NOT NULL,
    -- What several processes see happen and each would tell, by a name of its own.
    once         TEXT UNIQUE
);
CREATE INDEX events_by_workspace ON events (workspace_id, sequence);

-- The newest 10 000 are kept.
CREATE TRIGGER events_bounded AFTER INSERT ON events BEGIN
    DELETE FROM events WHERE sequence <= NEW.sequence - 10000;
END;

-- How often in a row a workspace's first process was started again by itself, and after which of its ends lastly.
ALTER TABLE workspaces ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN restarted_after TEXT;
