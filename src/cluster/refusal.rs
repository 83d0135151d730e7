//! What a cluster says against a request, in words that lead somewhere.

use kube::Error;

use super::denial::denial;
use super::{Cluster, told};
use crate::problem::Problem;

/// Whether the object that was asked for is not there.
pub fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404 && !is_namespace(&status.message))
}

/// Whether a message says that the namespace itself is missing.
fn is_namespace(message: &str) -> bool {
    message.starts_with("namespaces ")
}

/// An error of the interface, for a person. `doing` completes "cannot ...".
pub fn refusal(error: &Error, doing: &str, cluster: &Cluster) -> anyhow::Error {
    let namespace = cluster.namespace();
    let context = match cluster.context() {
        Some(context) => format!(" --context {context}"),
        None => String::new(),
    };
    let problem = match error {
        Error::Api(status) => {
            let problem = Problem::new(format!("cannot {doing}: {}", status.message));
            if let Some(denial) = denial(&status.message, namespace) {
                return problem.hint(denial.hint).into();
            }
            match status.code {
                401 => problem.hint(format!(
                    "the cluster does not accept your credentials; `kubectl{context} auth whoami` asks it who you are"
                )),
                403 => problem.hint(format!(
                    "your account lacks this right in namespace `{namespace}`; `kubectl{context} auth can-i --list -n \
                     {namespace}` lists those it has"
                )),
                404 if is_namespace(&status.message) => problem.hint(format!(
                    "`kubectl{context} create namespace {namespace}` makes it, `--namespace` names another one"
                )),
                _ => problem,
            }
        }
        Error::HyperError(_) | Error::Service(_) if innermost(error).contains("certificate") => Problem::new(format!(
            "cannot {doing}: {} shows a certificate that the kubeconfig does not trust: {}",
            cluster.server,
            innermost(error)
        ))
        .hint("the address or `certificate-authority-data` in the kubeconfig belongs to another cluster"),
        Error::HyperError(_) | Error::Service(_) => {
            let from = match cluster.context() {
                Some(context) => format!(" (context `{context}`)"),
                None => String::new(),
            };
            Problem::new(format!(
                "cannot {doing}: no cluster answers at {}{from}: {}",
                cluster.server,
                innermost(error)
            ))
            .hint("start it, or choose another one with --context; `kubectl config get-contexts` lists them")
        }
        Error::Auth(_) => Problem::new(format!("cannot {doing}: {}", told(error)))
            .hint("the kubeconfig's way to get credentials does not work; log in to the cluster again"),
        _ => Problem::new(format!("cannot {doing}: {}", told(error))),
    };
    problem.into()
}

/// The last of an error's causes: what the others only wrap.
fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
