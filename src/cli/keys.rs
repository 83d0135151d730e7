//! `emberline keys`: who may come in to a server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::Subcommand;
use serde::Serialize;

use super::Context;
use super::output::{Report, columns};
use crate::clock::{seconds_since_1970, utc};
use crate::files;
use crate::problem::Problem;
use crate::serve::keys::file::{self, Key};

/// Make, list and remove the keys of servers
///
/// A key file holds a name and a digest for each key, and no key: what `add` prints is printed once. Servers that were
/// started with `--keys FILE` see a change within two seconds, and need no restart.
///
/// To exchange a key, add another one (`keys add phone-2`), give it to those who use the old one, and then remove that
/// (`keys remove phone`): both are good meanwhile.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Example:\n  emberline keys add phone\n  emberline serve --keys emberline.keys"
)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `keys`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key and print it, this once
    ///
    /// 256 random bits, of which the key file keeps the SHA-256. A file that is not there is made, for its owner alone.
    #[command(after_help = "Example:\n  KEY=$(emberline keys add phone)")]
    Add(Add),
    /// List the keys that may come in
    #[command(after_help = "Example:\n  emberline keys list")]
    List(List),
    /// Let a key in no more
    ///
    /// The last one stays: a server takes no file without a key. Add another one first.
    #[command(after_help = "Example:\n  emberline keys remove phone")]
    Remove(Remove),
}

/// Arguments of `keys add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Who it is for: letters, digits, `.`, `_` and `-`
    pub name: String,
    /// The key file
    #[command(flatten)]
    pub file: File,
}

/// Arguments of `keys list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// The key file
    #[command(flatten)]
    pub file: File,
}

/// Arguments of `keys remove`.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Whose key
    pub name: String,
    /// The key file
    #[command(flatten)]
    pub file: File,
}

/// Which key file.
#[derive(Debug, clap::Args)]
pub struct File {
    /// The key file
    #[arg(long, value_name = "FILE", default_value = "emberline.keys", env = "EMBERLINE_KEYS")]
    pub keys: PathBuf,
}

impl File {
    fn read(&self) -> Result<(String, Vec<Key>)> {
        let path = &self.keys;
        let text = fs::read_to_string(path).map_err(|error| {
            Problem::new(format!("cannot read `{}`: {error}", path.display()))
                .hint("`emberline keys add NAME` makes a key file; `--keys FILE` names another one")
        })?;
        let keys = file::parse(&text, &path.display().to_string())?;
        Ok((text, keys))
    }
}

/// Makes a key.
///
/// # Errors
///
/// When there is one of that name, or the file cannot be written.
pub fn add(args: &Add, context: &Context) -> Result<AddReport> {
    let path = &args.file.keys;
    let _alone = files::lock(path)?;
    let there = path.try_exists().unwrap_or(true);
    let (text, keys) = if there {
        args.file.read()?
    } else {
        (String::new(), Vec::new())
    };
    if keys.iter().any(|key| *key.name == args.name) {
        let name = &args.name;
        return Err(Problem::new(format!("`{}` holds a key for `{name}` already", path.display()))
            .hint(format!(
                "to exchange it, add another one (`{name}-2`), give that to those who use `{name}`, then `emberline keys \
                 remove {name}`"
            ))
            .into());
    }
    let secret = generate()?;
    let created = utc(seconds_since_1970())[..10].to_owned();
    let key = Key::new(&args.name, file::digest(secret.as_bytes()), &created)?;
    replace(path, &file::with(&text, &key))?;
    context.output.note(&format!(
        "`{}` keeps its digest only: this is the one time that the key is shown",
        path.display()
    ));
    Ok(AddReport {
        name: args.name.clone(),
        key: secret,
        file: path.clone(),
        created,
    })
}

/// Lists the keys.
///
/// # Errors
///
/// When the file cannot be read.
pub fn list(args: &List) -> Result<ListReport> {
    let (_, keys) = args.file.read()?;
    Ok(ListReport {
        file: args.file.keys.clone(),
        keys: keys.iter().map(Listed::from).collect(),
    })
}

/// Removes a key.
///
/// # Errors
///
/// When there is none of that name, it is the last one, or the file cannot be written.
pub fn remove(args: &Remove) -> Result<RemoveReport> {
    let path = &args.file.keys;
    let _alone = files::lock(path)?;
    let (text, keys) = args.file.read()?;
    let Some(key) = keys.iter().find(|key| *key.name == args.name) else {
        let names: Vec<&str> = keys.iter().map(|key| &*key.name).collect();
        return Err(
            Problem::new(format!("`{}` holds no key for `{}`", path.display(), args.name))
                .hint(format!("it holds keys for: {}", names.join(", ")))
                .into(),
        );
    };
    if keys.len() == 1 {
        return Err(Problem::new(format!(
            "`{}` is the last key in `{}`, and servers do not take a file without one: they would go on to let it in",
            args.name,
            path.display()
        ))
        .hint("add another one first: `emberline keys add NAME`")
        .into());
    }
    replace(path, &file::without(&text, key))?;
    Ok(RemoveReport {
        name: args.name.clone(),
        file: path.clone(),
        left: keys.len() - 1,
    })
}

/// 256 random bits from the system, as text.
fn generate() -> Result<String> {
    let mut bits = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bits)
        .map_err(|_| anyhow!("the system gives no random bits"))?;
    Ok(format!("{}{}", file::PREFIX, files::hex(&bits)))
}

/// Who may read a file that is there is its owner's choice: a server may be another user. A new one is for its owner.
fn replace(path: &Path, text: &str) -> Result<()> {
    let permissions = fs::metadata(path).map_or(Permissions::from_mode(0o600), |found| found.permissions());
    files::replace(path, text.as_bytes())?;
    fs::set_permissions(path, permissions).with_context(|| format!("cannot set who may read `{}`", path.display()))
}

/// A new key.
#[derive(Debug, Serialize)]
pub struct AddReport {
    /// Who it is for.
    pub name: String,
    /// The key itself, which is kept nowhere.
    pub key: String,
    /// The key file.
    pub file: PathBuf,
    /// Today, in UTC.
    pub created: String,
}

impl Report for AddReport {
    fn text(&self) -> String {
        self.key.clone()
    }
}

/// The keys of a file.
#[derive(Debug, Serialize)]
pub struct ListReport {
    /// The key file.
    pub file: PathBuf,
    /// In the order of the file.
    pub keys: Vec<Listed>,
}

/// A key, as far as it is known.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Who it is for.
    pub name: String,
    /// The day it was made; none when the file does not say.
    pub created: Option<String>,
    /// SHA-256 of the key, 64 hex digits.
    pub digest: String,
}

impl From<&Key> for Listed {
    fn from(key: &Key) -> Self {
        Self {
            name: key.name.to_string(),
            created: key.created.clone(),
            digest: files::hex(&key.digest),
        }
    }
}

impl Report for ListReport {
    fn text(&self) -> String {
        let heads = ["NAME", "CREATED", "DIGEST"].map(str::to_owned).to_vec();
        let rows = self.keys.iter().map(|key| {
            let created = key.created.clone().unwrap_or_else(|| "-".to_owned());
            vec![key.name.clone(), created, key.digest[..12].to_owned()]
        });
        columns([heads].into_iter().chain(rows))
    }
}

/// A key that comes in no more.
#[derive(Debug, Serialize)]
pub struct RemoveReport {
    /// Whose key it was.
    pub name: String,
    /// The key file.
    pub file: PathBuf,
    /// Keys that may come in still.
    pub left: usize,
}

impl Report for RemoveReport {
    fn text(&self) -> String {
        let Self { name, file, left } = self;
        let keys = if *left == 1 { "key" } else { "keys" };
        format!("removed `{name}` from `{}`, {left} {keys} left", file.display())
    }
}
