//! Which cores the two ends of a measurement are on: what the scheduler would choose by chance. `taskset` of util-linux does it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::process::clean;

/// The cores that this process may use, as the system lists them: `0-3,6`.
pub fn allowed() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("the state of this process");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.expect("the cores that it may use").trim().to_owned()
}

/// The first and the last of a list.
pub fn ends(list: &str) -> [&str; 2] {
    let numbers = [list.split([',', '-']).next(), list.rsplit([',', '-']).next()];
    numbers.map(|number| number.unwrap_or(list))
}

/// Keeps this thread, and those that it starts from now on, on the cores of a list.
pub fn keep_generator_on(list: &str) {
    // The thread of `main` has the number of the process.
    let done = Command::new("taskset")
        .args(["--cpu-list", "--pid", list, &std::process::id().to_string()])
        .output()
        .expect("taskset, of util-linux");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The command of a program that stays on a core, without `EMBERLINE_*`. It has the process that is started.
pub fn command_on(core: &str, program: &Path) -> Command {
    let mut command = clean("taskset");
    command.args(["--cpu-list", core]).arg(program);
    command
}
