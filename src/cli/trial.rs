//! `emberline trial`: one trial of a sweep, as `tune` starts it, in a process of this machine or in a pod. Hidden: it takes
//! what it does as JSON, and says what came of it in lines of JSON.

use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Context;
use super::error::Failure;
use crate::tune::{self, Assignment};

/// How long a trial that nobody waits for may go on.
const ALONE: Duration = Duration::from_secs(5);

/// Do one trial of a sweep
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the trials of a Job are told; without it the one trial is read from stdin, and ends with it
    #[arg(long, env = "EMBERLINE_SWEEP", requires = "index", hide_env_values = true)]
    pub sweep: Option<String>,
    /// Which of them
    #[arg(long, env = "JOB_COMPLETION_INDEX")]
    pub index: Option<usize>,
}

/// Runs the command.
///
/// # Errors
///
/// Whatever is wrong with the trial; [`Failure::Interrupted`] when it was ended.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let interrupt = context.interrupt()?;
    let assignment = if let Some(sweep) = &args.sweep {
        Assignment::read(sweep, args.index)?
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).context("cannot read stdin")?;
        end_with_stdin(Arc::clone(&interrupt));
        Assignment::read(&line, None)?
    };
    let Some((bundle, seconds)) = tune::perform(&assignment, &interrupt)? else {
        return Err(Failure::Interrupted(": a trial that is not whole is not kept".into()).into());
    };
    tune::tell(&bundle, seconds, assignment.carried, &mut |line| match context
        .output
        .stdout(&serde_json::to_string(line)?)?
    {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Failure::Interrupted(": nobody listens".into()).into()),
    })
}

/// Ends the trial when whoever has started it is gone, or wants no more of it: stdin ends then.
fn end_with_stdin(interrupt: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = io::stdin().lock().read_to_end(&mut rest);
        interrupt.store(true, Ordering::Relaxed);
        // Where the flag is not looked at, while data is drawn say, nothing has been written yet.
        thread::sleep(ALONE);
        std::process::exit(130);
    });
}
