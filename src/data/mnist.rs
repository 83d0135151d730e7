//! Where the four files of MNIST are: in the user's folder, in the cache, or on a public mirror. What is in them is for
//! `idx` to read; only what was downloaded is checked against known digests.

use std::env;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use flate2::read::GzDecoder;

use super::Event;
use crate::files;
use crate::problem::Problem;

/// Tried in this order.
const MIRRORS: [&str; 2] = [
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
];

/// One half of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// 60,000 images.
    Training,
    /// 10,000 images.
    Test,
}

/// A file as the mirrors have it.
#[derive(Debug, PartialEq, Eq)]
struct PublicFile {
    /// With `.gz`.
    name: &'static str,
    /// SHA-256 of the unpacked content, which stays the same however it is compressed.
    sha256: &'static str,
    /// Bytes of the unpacked content.
    length: u64,
}

impl PublicFile {
    fn unpacked_name(&self) -> &'static str {
        self.name.trim_end_matches(".gz")
    }
}

const TRAINING: [PublicFile; 2] = [
    PublicFile {
        name: "train-images-idx3-ubyte.gz",
        sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        length: 47_040_016,
    },
    PublicFile {
        name: "train-labels-idx1-ubyte.gz",
        sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        length: 60_008,
    },
];

const TEST: [PublicFile; 2] = [
    PublicFile {
        name: "t10k-images-idx3-ubyte.gz",
        sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        length: 7_840_016,
    },
    PublicFile {
        name: "t10k-labels-idx1-ubyte.gz",
        sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        length: 10_008,
    },
];

/// Nothing longer is accepted from a mirror: the longest of the files has 10 MB.
const LONGEST_DOWNLOAD: u64 = 32 << 20;

/// The files of images and of labels. `folder` is used when it holds any file of the set, then the cache; what is not
/// there is downloaded into the cache.
///
/// # Errors
///
/// A file that `folder` lacks beside others that it has, a cache that cannot be written, or a file that no mirror gave:
/// with what to do without a network.
pub fn find(part: Part, folder: Option<&Path>, events: &dyn Fn(Event)) -> Result<(PathBuf, PathBuf)> {
    let wanted = match part {
        Part::Training => &TRAINING,
        Part::Test => &TEST,
    };
    if let Some(folder) = folder
        && !folder.is_dir()
    {
        return Err(
            Problem::new(format!("there is no folder `{}` to read MNIST from", folder.display()))
                .hint("name the folder that holds its files with `data.dir`, --data-dir or EMBERLINE_DATA_DIR")
                .into(),
        );
    }
    if let Some(folder) = folder
        && TRAINING.iter().chain(&TEST).any(|file| present(folder, file).is_some())
    {
        // Never half from here and half from elsewhere: that would be a set which nobody has checked.
        let own = |file: &PublicFile| {
            present(folder, file).ok_or_else(|| {
                Problem::new(format!(
                    "no `{}` (or `{}`) in `{}`, which holds other files of the set",
                    file.name,
                    file.unpacked_name(),
                    folder.display()
                ))
                .hint("put the file there, or name another folder with `data.dir` or EMBERLINE_DATA_DIR")
            })
        };
        return Ok((own(&wanted[0])?, own(&wanted[1])?));
    }
    let Some(cache) = cache(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) else {
        return Err(offline(
            "there is no cache folder to download MNIST into: neither XDG_CACHE_HOME nor HOME is set",
            folder,
            None,
        )
        .into());
    };
    let get = |file: &PublicFile| -> Result<PathBuf> {
        if let Some(path) = present(&cache, file) {
            return Ok(path);
        }
        let bytes = download(file, &MIRRORS, events).map_err(|reasons| offline(&reasons, folder, Some(&cache)))?;
        let path = cache.join(file.name);
        files::replace(&path, &bytes)?;
        Ok(path)
    };
    Ok((get(&wanted[0])?, get(&wanted[1])?))
}

fn present(folder: &Path, file: &PublicFile) -> Option<PathBuf> {
    [file.name, file.unpacked_name()]
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

/// `emberline/mnist` in the user's cache. A relative path is no answer, as the XDG specification has it.
fn cache(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let root = absolute(xdg_cache_home).or_else(|| Some(absolute(home)?.join(".cache")))?;
    Some(root.join("emberline").join("mnist"))
}

/// What to do when nothing can be downloaded.
fn offline(reason: &str, folder: Option<&Path>, cache: Option<&Path>) -> Problem {
    let names: Vec<&str> = TRAINING.iter().chain(&TEST).map(|file| file.name).collect();
    let into = folder
        .or(cache)
        .map_or_else(|| "a folder".to_owned(), |folder| format!("`{}`", folder.display()));
    Problem::new(reason).hint(format!(
        "without a network: put {} into {into}, or into any folder that EMBERLINE_DATA_DIR (or `data.dir`) names; or use \
         `source: synthetic-digits`, which needs no files",
        names.join(", ")
    ))
}

/// A file as the first mirror has it that gives the right one, or why none of them does.
fn download(file: &PublicFile, mirrors: &[&str], events: &dyn Fn(Event)) -> Result<Vec<u8>, String> {
    let mut reasons = vec![format!("cannot download `{}`", file.name)];
    for mirror in mirrors {
        let address = format!("{mirror}{}", file.name);
        match fetch(&address, file.name, events).and_then(|bytes| verify(file, &bytes).map(|()| bytes)) {
            Ok(bytes) => return Ok(bytes),
            Err(reason) => reasons.push(format!("{address}: {reason}")),
        }
    }
    Err(reasons.join("\n  "))
}

/// The content at an address, told piece by piece.
fn fetch(address: &str, file: &'static str, events: &dyn Fn(Event)) -> Result<Vec<u8>, String> {
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(20)))
        .timeout_per_read(Some(Duration::from_secs(20)))
        .timeout_global(Some(Duration::from_mins(10)))
        .build()
        .new_agent();
    let response = agent.get(address).call().map_err(|error| error.to_string())?;
    let body = response.into_body();
    let total = body.content_length();
    let mut reader = body.into_with_config().limit(LONGEST_DOWNLOAD).reader();
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let piece = reader.by_ref().take(PIECE).read_to_end(&mut bytes);
        piece.map_err(|error| format!("the download broke off: {error}"))?;
        if bytes.len() == before {
            return Ok(bytes);
        }
        events(Event::Downloading {
            file,
            received: bytes.len() as u64,
            total,
        });
    }
}

/// Bytes between two events.
const PIECE: u64 = 128 << 10;

/// Whether these bytes unpack to the file.
fn verify(file: &PublicFile, bytes: &[u8]) -> Result<(), String> {
    let mut content = Vec::with_capacity(file.length as usize + 1);
    GzDecoder::new(bytes)
        .take(file.length + 1)
        .read_to_end(&mut content)
        .map_err(|error| format!("not the file: {error}"))?;
    let digest = files::sha256(&content);
    if digest == file.sha256 {
        Ok(())
    } else {
        Err(format!(
            "not the file: its SHA-256 is {digest}, expected {}",
            file.sha256
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    const CONTENT: &[u8] = b"not really a set of images";

    fn file() -> PublicFile {
        PublicFile {
            name: TRAINING[1].name,
            // `printf 'not really a set of images' | sha256sum`
            sha256: "47bbf5d3b6e21d4d33219d87739be3973176c78d1cd96212a4e64c67f03a13a6",
            length: CONTENT.len() as u64,
        }
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).expect("memory");
        encoder.finish().expect("memory")
    }

    /// Answers one request with `body`, announced as `length` bytes.
    fn mirror(status: &'static str, body: Vec<u8>, length: usize) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = format!("http://{}/", listener.local_addr().expect("address"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("request");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("header");
                request.push(byte[0]);
            }
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            )
            .expect("header");
            stream.write_all(&body).expect("body");
        });
        (address, server)
    }

    #[test]
    fn the_next_mirror_is_tried_until_the_content_is_right() {
        let right = gzip(CONTENT);
        let wrong = gzip(b"something else entirely");
        let bodies = [
            ("404 Not Found", Vec::new(), 0),
            ("200 OK", wrong.clone(), wrong.len()),
            ("200 OK", right[..10].to_vec(), right.len()),
            ("200 OK", right.clone(), right.len()),
        ];
        let (addresses, servers): (Vec<_>, Vec<_>) = bodies
            .into_iter()
            .map(|(status, body, length)| mirror(status, body, length))
            .unzip();
        let mirrors: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let told = RefCell::new(Vec::new());
        let bytes = download(&file(), &mirrors, &|event| told.borrow_mut().push(event)).expect("the last one is right");
        assert_eq!(bytes, right);
        let all = right.len() as u64;
        let last = Event::Downloading {
            file: file().name,
            received: all,
            total: Some(all),
        };
        assert_eq!(told.borrow().last(), Some(&last));
        for server in servers {
            server.join().expect("served");
        }
    }

    #[test]
    fn each_mirror_gives_its_reason() {
        let (gone, server) = mirror("404 Not Found", Vec::new(), 0);
        let (wrong, other) = mirror("200 OK", b"<html>log in first".to_vec(), 18);
        let reasons = download(&file(), &[&gone, &wrong], &|_| ()).expect_err("neither has it");
        for part in [&gone, "404", &wrong, "not the file", file().name] {
            assert!(reasons.contains(part), "{part}: {reasons}");
        }
        server.join().expect("served");
        other.join().expect("served");
    }

    #[test]
    fn longer_content_than_expected_is_not_unpacked_to_its_end() {
        let error = verify(&file(), &gzip(&vec![0; 1 << 24])).expect_err("too long");
        assert!(error.contains("SHA-256"), "{error}");
    }

    #[test]
    fn the_cache_follows_the_user() {
        let path = |text: &str| Some(OsString::from(text));
        assert_eq!(cache(path("/c"), path("/home/u")), Some("/c/emberline/mnist".into()));
        assert_eq!(
            cache(None, path("/home/u")),
            Some("/home/u/.cache/emberline/mnist".into())
        );
        assert_eq!(
            cache(path("c"), path("/home/u")),
            Some("/home/u/.cache/emberline/mnist".into())
        );
        assert_eq!(cache(None, None), None);
    }

    #[test]
    fn a_folder_of_the_user_is_used_plain_or_gzip_but_never_in_part() {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"] {
            std::fs::write(folder.path().join(name), b"").expect("write");
        }
        let found = find(Part::Training, Some(folder.path()), &|_| ()).expect("both are there");
        assert_eq!(found.0, folder.path().join("train-images-idx3-ubyte"));
        assert_eq!(found.1, folder.path().join("train-labels-idx1-ubyte.gz"));
        let error = find(Part::Test, Some(folder.path()), &|_| ()).expect_err("no test set");
        assert!(error.to_string().contains("t10k-images-idx3-ubyte.gz"), "{error}");
    }

    #[test]
    fn without_a_network_one_is_told_what_to_do() {
        let problem = offline("why", Some(Path::new("/mine")), Some(Path::new("/cache")));
        let hint = problem.hint_text().expect("a hint");
        for file in TRAINING.iter().chain(&TEST) {
            assert!(hint.contains(file.name), "{hint}");
        }
        for part in ["`/mine`", "EMBERLINE_DATA_DIR", "synthetic-digits"] {
            assert!(hint.contains(part), "{hint}");
        }
    }
}
