//! nginx's processes on this machine, as `/proc` tells of them: those of one folder, which is their working directory for
//! good and tells them from any other nginx.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::usage::Usage;

/// The master that was started in `folder`, if it runs.
pub fn master(folder: &Path) -> Option<Pid> {
    let text = fs::read_to_string(folder.join("nginx.pid")).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?)?;
    // The file of an nginx that was killed stays, and the number may be another process's by now.
    is(pid, b"nginx: master process", folder).then_some(pid)
}

/// The workers in `folder`, which may have outlived their master, and those that only finish what they have.
pub fn workers(folder: &Path) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
        .filter(|pid| is_worker(*pid, folder))
        .collect()
}

/// Whether a process is a worker in `folder`.
pub fn is_worker(pid: Pid, folder: &Path) -> bool {
    is(pid, b"nginx: worker process", folder)
}

/// Processor time that the workers in `folder` have used, in seconds; none when one of them cannot be asked.
pub fn cpu_seconds(folder: &Path) -> Option<f64> {
    let workers = workers(folder);
    let seconds = workers
        .iter()
        .map(|pid| Some(Usage::of(pid.as_raw_nonzero().get().cast_unsigned())?.cpu_seconds));
    seconds.sum::<Option<f64>>().filter(|_| !workers.is_empty())
}

fn is(pid: Pid, title: &[u8], folder: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    fs::read(process.join("cmdline")).is_ok_and(|found| found.starts_with(title))
        && fs::canonicalize(folder)
            .is_ok_and(|folder| fs::read_link(process.join("cwd")).is_ok_and(|found| found == folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_another_process_has_by_now_is_not_nginx() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(master(folder.path()), None);
        for text in ["", "none", "0", &std::process::id().to_string()] {
            fs::write(folder.path().join("nginx.pid"), text).expect("written");
            assert_eq!(master(folder.path()), None, "{text}");
        }
        assert_eq!(workers(folder.path()), []);
    }
}
