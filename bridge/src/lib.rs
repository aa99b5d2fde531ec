//! Wire types of the agent inside a workspace.
