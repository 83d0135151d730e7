//! The way to a registry: the host that a reference names, the credentials that this user has for it, and an image sent
//! there straight from memory.
//!
//! A registry on this machine's loopback is spoken to in plain HTTP, any other one in HTTPS.

use std::env;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};

use super::assemble::MANIFEST_TYPE;
use super::layer::digest;
use super::{Image, Reference};
use crate::engine::innermost;
use crate::problem::Problem;

/// How long a registry may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take for each part of a layer, some megabytes.
const ANSWER: Duration = Duration::from_mins(2);
/// What Docker calls its own registry in the file of credentials.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What `docker login` has stored for a registry, in a file or with a helper.
///
/// # Errors
///
/// When there is something that cannot be read.
pub(super) fn credentials(host: &str) -> Result<Option<DockerCredential>> {
    let folder = match env::var_os("DOCKER_CONFIG") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")),
    };
    let Some(path) = folder
        .map(|folder| folder.join("config.json"))
        .filter(|path| path.exists())
    else {
        return Ok(None);
    };
    let server = if host == "docker.io" { DOCKER_HUB } else { host };
    let found = File::open(&path)
        .map_err(|_| CredentialRetrievalError::ConfigReadError)
        .and_then(|file| docker_credential::get_credential_from_reader(BufReader::new(file), server));
    match found {
        Ok(credential) => Ok(Some(credential)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // How helpers say that they have none.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Err(error) => Err(Problem::new(format!(
            "cannot read the credentials for `{host}` from `{}`: {}",
            path.display(),
            error.to_string().trim()
        ))
        .hint(format!("`docker login {host}` stores them anew"))
        .into()),
    }
}

/// Credentials as an engine takes them.
pub(super) fn for_engine(credential: DockerCredential, host: &str) -> DockerCredentials {
    let server = DockerCredentials {
        serveraddress: Some(host.to_owned()),
        ..DockerCredentials::default()
    };
    match credential {
        DockerCredential::IdentityToken(token) => DockerCredentials {
            identitytoken: Some(token),
            ..server
        },
        DockerCredential::UsernamePassword(name, password) => DockerCredentials {
            username: Some(name),
            password: Some(password),
            ..server
        },
    }
}

/// Why an image was not pushed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nobody answers there.
    Unreachable(String),
    /// Somebody does, and lets this user push nothing.
    Forbidden(String),
    /// Anything else.
    Other(String),
}

impl Refusal {
    /// What the user is told of it. `known` is whether there were credentials.
    pub(super) fn problem(self, reference: &Reference, host: &str, known: bool) -> Problem {
        match self {
            Self::Unreachable(cause) => Problem::new(format!("no registry answers at `{host}`: {cause}")).hint(
                "`package.repository`, or --repository, begins with the registry's host, and its port if it has one",
            ),
            Self::Forbidden(cause) => {
                let problem = Problem::new(format!("`{host}` does not let you push `{reference}`: {cause}"));
                problem.hint(if known {
                    format!("the credentials that `docker login {host}` has stored are not enough; log in again")
                } else {
                    format!("no credentials are stored for it; `docker login {host}` stores them")
                })
            }
            Self::Other(cause) => Problem::new(format!("cannot push `{reference}`: {cause}")),
        }
    }
}

impl From<OciDistributionError> for Refusal {
    fn from(error: OciDistributionError) -> Self {
        let cause = innermost(&error);
        match error {
            OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
                Self::Forbidden(cause)
            }
            OciDistributionError::ServerError { code: 401 | 403, .. } => Self::Forbidden(cause),
            OciDistributionError::RequestError(request) => match request.status().map(|status| status.as_u16()) {
                Some(401 | 403) => Self::Forbidden(cause),
                None if request.is_connect() || request.is_timeout() => Self::Unreachable(cause),
                _ => Self::Other(cause),
            },
            _ => Self::Other(cause),
        }
    }
}

/// Asks the registry that a reference names whether this user may push there; nothing is sent.
///
/// # Errors
///
/// As [`Image::push`].
pub fn may_push(reference: &Reference) -> Result<()> {
    Way::to(reference)?.go(async |way| way.open().await.map(drop))
}

/// The digest of the image that a reference names, if its registry has it.
///
/// # Errors
///
/// As [`Image::push`]. Whatever else the registry says of the image is that it has none.
pub(super) fn find(reference: &Reference) -> Result<Option<String>> {
    let mut found = None;
    let way = Way::to(reference)?;
    way.go(async |way| {
        let (client, name) = way.open().await?;
        found = client.fetch_manifest_digest(&name, &way.authentication).await.ok();
        Ok(())
    })?;
    Ok(found)
}

impl Image {
    /// Pushes the image to the registry that its reference names, with the credentials of this user. What the registry has
    /// already is not sent again. `progress` is told of each layer.
    ///
    /// # Errors
    ///
    /// That the reference names no registry, or what the registry has against it.
    pub fn push(&self, progress: &mut dyn FnMut(&str)) -> Result<()> {
        Way::to(&self.reference)?.go(async |way| self.send(way, progress).await)
    }

    async fn send(&self, way: &Way<'_>, progress: &mut dyn FnMut(&str)) -> Result<(), OciDistributionError> {
        let (client, name) = way.open().await?;
        let config = ("configuration", digest(&self.config), &self.config[..]);
        let layers = self
            .layers
            .iter()
            .map(|layer| (layer.content(), layer.digest().to_owned(), layer.blob()));
        for (content, digest, bytes) in layers.chain([config]) {
            if client.blob_exists(&name, &digest).await? {
                progress(&format!("{content}: is there already"));
            } else {
                client.push_blob(&name, bytes.to_vec(), &digest).await?;
                progress(&format!("{content}: pushed {} bytes", bytes.len()));
            }
        }
        client
            .push_manifest_raw(
                &name,
                self.manifest.clone(),
                http::HeaderValue::from_static(MANIFEST_TYPE),
            )
            .await?;
        Ok(())
    }
}

/// The way to where a reference leads, with this user's credentials.
struct Way<'a> {
    reference: &'a Reference,
    host: &'a str,
    authentication: RegistryAuth,
}

impl<'a> Way<'a> {
    fn to(reference: &'a Reference) -> Result<Self> {
        let host = reference.require_registry()?;
        Ok(Self {
            reference,
            host,
            authentication: authentication(host)?,
        })
    }

    /// A client that the registry lets push, and the image's name as it takes it.
    async fn open(&self) -> Result<(Client, oci_client::Reference), OciDistributionError> {
        let client = client(self.host)?;
        let name = parsed(&self.reference.to_string())?;
        client
            .auth(&name, &self.authentication, RegistryOperation::Push)
            .await?;
        Ok((client, name))
    }

    fn go(&self, errand: impl AsyncFnOnce(&Self) -> Result<(), OciDistributionError>) -> Result<()> {
        let known = !matches!(self.authentication, RegistryAuth::Anonymous);
        runtime()?
            .block_on(errand(self))
            .map_err(|error| Refusal::from(error).problem(self.reference, self.host, known).into())
    }
}

fn authentication(host: &str) -> Result<RegistryAuth> {
    match credentials(host)? {
        None => Ok(RegistryAuth::Anonymous),
        Some(DockerCredential::UsernamePassword(name, password)) => Ok(RegistryAuth::Basic(name, password)),
        Some(DockerCredential::IdentityToken(_)) => Err(Problem::new(format!(
            "what is stored for `{host}` is an identity token, and only a container engine can use one"
        ))
        .hint("`--builder docker` pushes by the engine; or log in with an access token as the password")
        .into()),
    }
}

fn client(host: &str) -> Result<Client, OciDistributionError> {
    Client::try_from(ClientConfig {
        protocol: if is_loopback(host) {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        connect_timeout: Some(CONNECT),
        read_timeout: Some(ANSWER),
        user_agent: concat!("emberline/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot prepare to talk to the registry")
}

/// An image as it came from its registry.
pub(super) struct Pulled {
    /// The digest of its manifest.
    pub(super) digest: String,
    /// The digest of its configuration.
    pub(super) id: String,
    /// Its configuration, JSON.
    pub(super) config: String,
    /// Its layers, the lowest first, as they are stored.
    pub(super) layers: Vec<Vec<u8>>,
}

/// Gets an image, named by a tag or a digest, from the registry that its reference names; none when it is not there.
///
/// # Errors
///
/// That the reference names no registry, or what the registry has against it.
pub(super) fn pull(reference: &str) -> Result<Option<Pulled>> {
    let host = Reference::registry_of(reference)?;
    let authentication = authentication(host)?;
    let known = !matches!(authentication, RegistryAuth::Anonymous);
    let asked = runtime()?.block_on(async {
        let client = client(host)?;
        let name = parsed(reference)?;
        let (manifest, digest, config) = match client.pull_manifest_and_config(&name, &authentication).await {
            Err(error) if is_absent(&error) => return Ok(None),
            found => found?,
        };
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            let mut bytes = Vec::new();
            client.pull_blob(&name, layer, &mut bytes).await?;
            layers.push(bytes);
        }
        Ok(Some(Pulled {
            digest,
            id: manifest.config.digest,
            config,
            layers,
        }))
    });
    asked.map_err(|error: OciDistributionError| {
        let problem = match Refusal::from(error) {
            Refusal::Unreachable(cause) => Problem::new(format!("no registry answers at `{host}`: {cause}")),
            Refusal::Forbidden(cause) => {
                let problem = Problem::new(format!("`{host}` does not let you read `{reference}`: {cause}"));
                if known {
                    problem
                } else {
                    problem.hint(format!(
                        "no credentials are stored for it; `docker login {host}` stores them"
                    ))
                }
            }
            Refusal::Other(cause) => Problem::new(format!("cannot read `{reference}`: {cause}")),
        };
        problem.into()
    })
}

fn parsed(reference: &str) -> Result<oci_client::Reference, OciDistributionError> {
    reference
        .parse()
        .map_err(|error: oci_client::ParseError| OciDistributionError::GenericError(Some(error.to_string())))
}

/// Whether a registry says that it has no such image.
fn is_absent(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => true,
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().any(|error| {
            use oci_client::errors::OciErrorCode::{ManifestUnknown, NameUnknown, NotFound};
            matches!(error.code, ManifestUnknown | NameUnknown | NotFound)
        }),
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    name == "localhost"
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_plain_text() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "registry.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1:5000",
            "localhost.example.com:5000",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
