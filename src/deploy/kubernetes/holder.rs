//! Which process of which machine holds a lock: another one of the same machine knows at once that it has died, and need not
//! wait until the lock ends by itself. Where that cannot be known for certain, it lives.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// A process, so that no other one is taken for it: not one of another machine, of another container of the same one, or a
/// later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The boot of the machine.
    boot: String,
    /// The namespace that its number is of.
    namespace: String,
    pid: i32,
    /// When it was started, in ticks since the boot.
    started: String,
}

impl Process {
    /// This one; none where the system does not say.
    pub fn this() -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        Some(Self {
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .ok()?
                .trim()
                .to_owned(),
            namespace: fs::read_link("/proc/self/ns/pid").ok()?.to_str()?.to_owned(),
            pid,
            started: Stat::of(pid).ok()?.started,
        })
    }

    /// As it is written.
    pub fn told(&self) -> String {
        format!("{} {} {} {}", self.boot, self.namespace, self.pid, self.started)
    }

    /// As it was written.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::to_owned);
        let read = Self {
            boot: words.next()?,
            namespace: words.next()?,
            pid: words.next()?.parse().ok().filter(|pid| *pid > 0)?,
            started: words.next()?,
        };
        words.next().is_none().then_some(read)
    }

    /// Whether it has died for certain.
    pub fn has_died(&self) -> bool {
        let Some(this) = Self::this() else { return false };
        if (&this.boot, &this.namespace) != (&self.boot, &self.namespace) {
            return false;
        }
        let Some(pid) = Pid::from_raw(self.pid) else {
            return false;
        };
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        // The files of other users' processes may be hidden; then it is there, and that is all that is known.
        Stat::of(self.pid).is_ok_and(|stat| stat.has_ended || stat.started != self.started)
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    has_ended: bool,
    started: String,
}

impl Stat {
    fn of(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::read(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    fn read(text: &str) -> Option<Self> {
        // The name before it may hold anything. From there on: state, then 18 others, then the start.
        let (_, rest) = text.rsplit_once(") ")?;
        let mut words = rest.split(' ');
        Some(Self {
            has_ended: matches!(words.next()?, "Z" | "X"),
            started: words.nth(18)?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_read_as_it_was_written() {
        let this = Process::this().expect("a process");
        assert_eq!(Process::read(&this.told()), Some(this));
        for text in [
            "",
            "boot namespace",
            "boot namespace x 1",
            "boot namespace 0 1",
            "a b 1 2 3",
        ] {
            assert_eq!(Process::read(text), None, "{text}");
        }
        let stat = Stat::read("7 (a ) (b) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20").expect("a line");
        assert!(stat.has_ended && stat.started == "4711", "{}", stat.started);
    }

    #[test]
    fn only_what_has_died_for_certain_is_dead() {
        let this = Process::this().expect("a process");
        assert!(!this.has_died());
        let later = Process {
            started: "1".into(),
            ..this.clone()
        };
        assert!(later.has_died(), "another one has its number");
        let elsewhere = Process {
            boot: "another".into(),
            ..later.clone()
        };
        assert!(!elsewhere.has_died());
        let inside = Process {
            namespace: "pid:[1]".into(),
            ..later
        };
        assert!(!inside.has_died());

        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .expect("it starts");
        let pid = i32::try_from(child.id()).expect("a number");
        let other = Process {
            pid,
            started: Stat::of(pid).expect("it runs").started,
            ..this
        };
        assert!(!other.has_died());
        child.kill().expect("killed");
        // One whose parent has not looked yet has ended as well.
        while !Stat::of(pid).is_ok_and(|stat| stat.has_ended) {
            std::thread::yield_now();
        }
        assert!(other.has_died());
        child.wait().expect("its end");
        assert!(other.has_died());
    }
}
