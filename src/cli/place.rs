//! Where a service is: the flags that every command about one shares, and the target that they and the project lead to.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use super::error::Failure;
use crate::cluster::Access;
use crate::deploy::Target;
use crate::deploy::docker::Docker;
use crate::deploy::kubernetes::Kubernetes;
use crate::deploy::local::Local;
use crate::problem::Problem;
use crate::project::{Project, TargetKind};
use crate::serve::Settings;

/// What the flags below stand under in a help text.
const HEADING: &str = "Where";

/// Flags that say where a service is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// Where the service runs [default: `deploy.target`]
    #[arg(long, value_enum, help_heading = HEADING, env = "EMBERLINE_TARGET")]
    pub target: Option<TargetName>,
    /// Kubernetes: namespace [default: `deploy.namespace`, or that of the context]
    #[arg(short, long, help_heading = HEADING, env = "EMBERLINE_NAMESPACE")]
    pub namespace: Option<String>,
    /// Kubernetes: context of the kubeconfig [default: `deploy.context`, or its current one]
    #[arg(long, help_heading = HEADING, env = "EMBERLINE_CONTEXT")]
    pub context: Option<String>,
    /// Kubernetes: the kubeconfig [default: what KUBECONFIG names, or ~/.kube/config]
    #[arg(long, value_name = "FILE", help_heading = HEADING, env = "EMBERLINE_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
}

/// Where a service can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// Processes on this machine
    Local,
    /// Containers on this machine
    Docker,
    /// Pods
    Kubernetes,
}

impl From<TargetName> for TargetKind {
    fn from(name: TargetName) -> Self {
        match name {
            TargetName::Local => Self::Local,
            TargetName::Docker => Self::Docker,
            TargetName::Kubernetes => Self::Kubernetes,
        }
    }
}

impl Place {
    /// The kind of target.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when a flag is about a cluster, and the target is none.
    pub fn kind(&self, project: &Project) -> Result<TargetKind> {
        let kind = self.target.map_or(project.config.deploy.target, TargetKind::from);
        let flags = [
            ("--namespace", self.namespace.is_some()),
            ("--context", self.context.is_some()),
            ("--kubeconfig", self.kubeconfig.is_some()),
        ];
        if kind != TargetKind::Kubernetes
            && let Some((flag, _)) = flags.iter().find(|(_, given)| *given)
        {
            return Err(Failure::Usage(format!(
                "`{flag}` is about a cluster, and the target is `{}`; --target kubernetes is the one that reads it",
                kind.name()
            ))
            .into());
        }
        let namespace = self.namespace.as_ref().or(project.config.deploy.namespace.as_ref());
        if let Some(namespace) = namespace.filter(|namespace| !is_label(namespace)) {
            return Err(Problem::new(format!("`{namespace}` is no name of a namespace"))
                .hint("it takes up to 63 lower-case letters, digits and dashes between them")
                .into());
        }
        Ok(kind)
    }

    /// The service of `project` there.
    ///
    /// # Errors
    ///
    /// As [`Place::kind`], and when there is no engine or no cluster.
    pub fn target(&self, project: &Project) -> Result<Box<dyn Target>> {
        Ok(match self.kind(project)? {
            TargetKind::Local => Box::new(Local::new(project)),
            TargetKind::Docker => Box::new(Docker::new(project, Settings::default().max_body)?),
            TargetKind::Kubernetes => Box::new(self.kubernetes(project)?),
        })
    }

    /// As [`Place::target`], for a change; `no_probe` leaves out the requests that prove that it loses none.
    ///
    /// # Errors
    ///
    /// As [`Place::target`], and [`Failure::Usage`] when there are none that could be left out.
    pub fn target_to_change(&self, project: &Project, no_probe: bool) -> Result<Box<dyn Target>> {
        self.target_to_deploy(project, no_probe, true)
    }

    /// The same for a new version; without `rolls_back` one that does not arrive is left as it is.
    ///
    /// # Errors
    ///
    /// As [`Place::target_to_change`], and [`Failure::Usage`] for a target that leaves nothing half-way.
    pub fn target_to_deploy(&self, project: &Project, no_probe: bool, rolls_back: bool) -> Result<Box<dyn Target>> {
        let kind = self.kind(project)?;
        Self::check_change(kind, no_probe, rolls_back)?;
        if kind != TargetKind::Kubernetes {
            return self.target(project);
        }
        let mut target = self.kubernetes(project)?;
        if no_probe {
            target = target.without_probe();
        }
        if !rolls_back {
            target = target.keeping_failures();
        }
        Ok(Box::new(target))
    }

    /// Checks that a target knows what is asked of a change.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] that names what it does not know.
    pub fn check_change(kind: TargetKind, no_probe: bool, rolls_back: bool) -> Result<()> {
        let wrong = match kind {
            TargetKind::Kubernetes => return Ok(()),
            _ if no_probe => "`--no-probe` is about a pod of a cluster",
            _ if !rolls_back => {
                "`--rollback-on-failure=false` leaves the pods of a version that failed in the cluster, to be looked at"
            }
            _ => return Ok(()),
        };
        let kind = kind.name();
        Err(Failure::Usage(format!("{wrong}, and the target is `{kind}`, which has none")).into())
    }

    /// The service of `project` in the cluster.
    ///
    /// # Errors
    ///
    /// When there is no cluster.
    pub fn kubernetes(&self, project: &Project) -> Result<Kubernetes> {
        Kubernetes::new(project, &self.access(project))
    }

    /// Which cluster the flags and the project name.
    pub fn access(&self, project: &Project) -> Access {
        let config = &project.config.deploy;
        let flags = self.flags();
        Access {
            namespace: flags.namespace.or_else(|| config.namespace.clone()),
            context: flags.context.or_else(|| config.context.clone()),
            ..flags
        }
    }

    /// Which cluster the flags name.
    pub fn flags(&self) -> Access {
        Access {
            namespace: self.namespace.clone(),
            context: self.context.clone(),
            kubeconfig: self.kubeconfig.clone(),
        }
    }
}

/// Whether a name is a label of DNS, as the names of namespaces are.
fn is_label(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().last()];
    name.len() <= 63
        && ends.iter().all(|end| end.is_some_and(letter))
        && name.bytes().all(|byte| letter(byte) || byte == b'-')
}
