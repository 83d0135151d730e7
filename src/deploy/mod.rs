//! deploy

/// Ends of a deployment that a script branches on.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Another process is changing the deployment.
    #[error("another deploy holds the lock of `{name}`{holder}")]
    Locked {
        /// The deployment.
        name: String,
        /// ` (who)`, when it is known.
        holder: String,
    },
    /// The new version did not become ready, and the former one serves on.
    #[error("deploy failed and was rolled back: {0}")]
    RolledBack(String),
    /// The new version did not become ready, and there is no former one.
    #[error("deploy failed: {0}")]
    NotRolledBack(String),
}

impl DeployError {
    /// The exit code of the tool.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::RolledBack(_) => 4,
            Self::NotRolledBack(_) => 5,
            Self::Locked { .. } => 6,
        }
    }
}
