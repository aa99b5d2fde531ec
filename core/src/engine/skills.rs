use super::Workspace;
use super::fs::Access;
use crate::bridge::BridgeClient;
use crate::error::Result;
use crate::skills;
use crate::types::{
    SkillDeleteOptions, SkillDeleteResult, SkillList, SkillListOptions, SkillUpsertOptions, SkillUpsertResult,
};

/// The skills of a workspace: folders with a `SKILL.md`, in one or more roots.
///
/// Every method fails with NOT_FOUND when there is no such workspace, and UNAVAILABLE when
/// its agent cannot be reached. One that does not run has its skills too, as it has its files.
#[derive(Debug, Clone)]
pub struct Skills {
    workspace: Workspace,
}

impl Skills {
    pub(crate) fn new(workspace: Workspace) -> Self {
        Self { workspace }
    }

    fn roots(&self) -> &[String] {
        &self.workspace.engine.inner.config.guest.skill_roots
    }

    fn root(&self, asked: Option<&String>) -> String {
        asked.or_else(|| self.roots().first()).cloned().unwrap_or_default()
    }

    /// Lists the skills, whole files included. A root that is not there has none; a file that cannot be read, or not as a skill,
    /// is told as a problem and hides no other.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed root.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn list(&self, options: SkillListOptions) -> Result<SkillList> {
        let roots = if options.roots.is_empty() { self.roots() } else { &options.roots };
        let call = async |client: BridgeClient| skills::list(&client, roots).await;
        self.workspace.with_files(Access::Read, call).await.map_err(|e| e.in_operation("skills.list"))
    }

    /// Writes skills into one root, over those of the same names. All are checked before the first is written, and each file is
    /// replaced at once or not at all.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a skill without a name or with one that cannot be, one that is there twice or is over 1 MiB, and a `raw`
    /// whose frontmatter is no YAML; FAILED_PRECONDITION when the folder of that name holds another skill; PERMISSION_DENIED;
    /// RESOURCE_EXHAUSTED on a full disk.
    ///
    /// # Cancel safety
    /// When dropped, some of the skills may be written, each wholly.
    pub async fn upsert(&self, options: SkillUpsertOptions) -> Result<SkillUpsertResult> {
        let root = self.root(options.root.as_ref());
        let call = async |client: BridgeClient| skills::upsert(&client, &root, &options).await;
        self.workspace.with_files(Access::Write, call).await.map_err(|e| e.in_operation("skills.upsert"))
    }

    /// Deletes skills of one root, each with its folder. One that is not there is no error.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a name that cannot be; PERMISSION_DENIED.
    ///
    /// # Cancel safety
    /// When dropped, some of the skills may be deleted.
    pub async fn delete(&self, options: SkillDeleteOptions) -> Result<SkillDeleteResult> {
        let root = self.root(options.root.as_ref());
        let call = async |client: BridgeClient| skills::delete(&client, &root, &options).await;
        self.workspace.with_files(Access::Write, call).await.map_err(|e| e.in_operation("skills.delete"))
    }
}
