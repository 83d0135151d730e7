//! A Kubernetes cluster: found, asked, and told what is wrong with it. What is put there is in `deploy` and `gateway`.

mod apply;
mod denial;
pub mod diagnosis;
mod manifest;
mod proxy;
mod refusal;
mod rights;
pub mod rollout;

use std::env;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::DynamicObject;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::ApiResource;
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use crate::problem::Problem;

pub use apply::{Write, applicable};
pub use denial::Outlook;
pub use manifest::Manifest;
pub use refusal::{is_absent, refusal};
pub use rights::Right;
#[cfg(test)]
pub use rights::named_by;

/// Who writes what is applied: it owns those fields, and no others.
pub const FIELD_MANAGER: &str = "emberline";
/// How long a cluster may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Which cluster, and where in it.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The namespace; that of the context when there is none.
    pub namespace: Option<String>,
    /// The context of the kubeconfig; its current one when there is none.
    pub context: Option<String>,
    /// The kubeconfig; what `KUBECONFIG` names, or `~/.kube/config`, or the account of the pod that this runs in, when there
    /// is none.
    pub kubeconfig: Option<PathBuf>,
}

/// A kind of object that lives in namespaces.
pub trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Serialize + DeserializeOwned
{
}

impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Serialize + DeserializeOwned
{
}

/// A cluster and a namespace of it.
pub struct Cluster {
    client: Client,
    runtime: Runtime,
    namespace: String,
    context: Option<String>,
    server: String,
}

impl Cluster {
    /// The cluster that `access` names. Nothing is asked of it yet.
    ///
    /// # Errors
    ///
    /// A [`Problem`] with a hint when there is no kubeconfig, no such context, or something is wrong with either.
    pub fn connect(access: &Access) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot prepare to talk to the cluster")?;
        let (mut config, context) = runtime.block_on(configuration(access))?;
        config.connect_timeout = Some(CONNECT);
        let namespace = access.namespace.clone().unwrap_or(config.default_namespace.clone());
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = {
            let _inside = runtime.enter();
            Client::try_from(config).context("cannot prepare to talk to the cluster")?
        };
        Ok(Self {
            client,
            runtime,
            namespace,
            context,
            server,
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The context of the kubeconfig, unless this runs in the cluster itself.
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// The interface itself, for requests that have no type.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Objects of a kind in the namespace, as they are told.
    pub fn untyped<K: Object>(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::erase::<K>(&()))
    }

    /// The pods of the namespace, for their logs.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Asks whether the cluster answers, and whether the namespace is there as far as one may know that.
    ///
    /// # Errors
    ///
    /// What is wrong with either.
    pub fn check(&self) -> Result<()> {
        self.ask("reach the cluster", self.client.apiserver_version())?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let doing = format!("find namespace `{}`", self.namespace);
        self.ask(&doing, async {
            match namespaces.get_metadata(&self.namespace).await {
                // Most accounts may not read namespaces; what they may do in one shows later.
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
                answer => answer.map(drop),
            }
        })
    }

    /// Waits for one answer of the cluster. `doing` completes "cannot ...".
    ///
    /// # Errors
    ///
    /// What the cluster says against it, with a hint, or that it does not answer.
    pub fn ask<T>(&self, doing: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            match tokio::time::timeout(ANSWER, request).await {
                Ok(answer) => answer.map_err(|error| refusal(&error, doing, self)),
                Err(_) => Err(Problem::new(format!(
                    "cannot {doing}: the cluster at {} did not answer within {} s",
                    self.server,
                    ANSWER.as_secs()
                ))
                .into()),
            }
        })
    }

    /// As [`Cluster::ask`], for an object that need not be there.
    ///
    /// # Errors
    ///
    /// As [`Cluster::ask`], but when it is not there.
    pub fn find<T>(&self, doing: &str, request: impl Future<Output = kube::Result<T>>) -> Result<Option<T>> {
        self.ask(doing, async {
            match request.await {
                Err(error) if is_absent(&error) => Ok(None),
                answer => answer.map(Some),
            }
        })
    }

    /// Waits for anything else, as long as it takes.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// What is known of the cluster, and the context that it comes from.
async fn configuration(access: &Access) -> Result<(Config, Option<String>)> {
    let found = match &access.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => read_all(),
    };
    let kubeconfig = match found {
        Ok(kubeconfig) => kubeconfig,
        Err(error) => {
            let inside = access.kubeconfig.is_none() && access.context.is_none();
            return match Config::incluster() {
                Ok(config) if inside => Ok((config, None)),
                _ => Err(unreadable(&error).into()),
            };
        }
    };
    let context = access.context.clone().or_else(|| kubeconfig.current_context.clone());
    let contexts: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let options = KubeConfigOptions {
        context: access.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| unusable(&error, &contexts))?;
    Ok((config, context))
}

/// What `KUBECONFIG` names, of which some need not be there when there are several, or `~/.kube/config`.
fn read_all() -> Result<Kubeconfig, KubeconfigError> {
    let several = env::var_os("KUBECONFIG").unwrap_or_default();
    let several: Vec<PathBuf> = env::split_paths(&several).collect();
    let there: Vec<&PathBuf> = several.iter().filter(|path| path.is_file()).collect();
    if several.len() < 2 || there.is_empty() {
        return Kubeconfig::read();
    }
    there.into_iter().try_fold(Kubeconfig::default(), |all, path| {
        all.merge(Kubeconfig::read_from(path)?)
    })
}

fn unreadable(error: &KubeconfigError) -> Problem {
    let reason = match error {
        KubeconfigError::ReadConfig(cause, path) => format!("cannot read `{}`: {cause}", path.display()),
        // The text of such an error shows the lines around the mistake, and a line may be a secret.
        KubeconfigError::Parse(mistake) => match mistake.location() {
            Some(place) => format!(
                "the kubeconfig is no YAML of its kind, at line {}, column {}",
                place.line(),
                place.column()
            ),
            None => "the kubeconfig is no YAML of its kind".to_owned(),
        },
        error => told(error),
    };
    Problem::new(format!("there is no cluster to work with: {reason}"))
        .hint("name a kubeconfig with --kubeconfig or KUBECONFIG; without either it is ~/.kube/config")
}

fn unusable(error: &KubeconfigError, contexts: &[String]) -> Problem {
    let known = match contexts {
        [] => "the kubeconfig has no context".to_owned(),
        contexts => format!("the kubeconfig has these contexts: {}", contexts.join(", ")),
    };
    match error {
        KubeconfigError::LoadContext(name) => Problem::new(format!("there is no context `{name}`")).hint(known),
        KubeconfigError::CurrentContextNotSet if contexts.is_empty() => {
            Problem::new("there is no cluster to work with: the kubeconfig has no context")
                .hint("name another one with --kubeconfig or KUBECONFIG")
        }
        KubeconfigError::CurrentContextNotSet => {
            Problem::new("the kubeconfig has no current context").hint(format!("choose one with --context; {known}"))
        }
        error => Problem::new(format!("the kubeconfig cannot be used: {}", told(error))),
    }
}

/// An error with its causes, each once.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
