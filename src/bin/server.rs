//! `emberline-server`: the runtime that goes into an image. It reads its arguments and serves.
//!
//! This is the one place of the runtime that prints: help, version and what a probe or a load counts on stdout, everything else on
//! stderr.

use std::io::{self, Write};
use std::process::ExitCode;

use emberline::probe::{self, load};
use emberline::problem::Problem;
use emberline::second_port;
use emberline::serve::{self, Request, health};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Request::read(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
        Ok(Request::Print(text)) => {
            // A reader that has gone (`| head`) is no error.
            let _ = writeln!(io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Ok(Request::Serve(bundle, settings)) => match serve::run(&bundle, &settings, second_port::GRPC, &say) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Ok(Request::Health(settings)) => match health::check(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Ok(Request::Probe(order)) => match probe::run(&order, &tell) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Ok(Request::Load(order)) => match load::run(&order, &|| false, &mut |told| tell(&json(told))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Err(error) => fail(&error, 2),
    }
}

fn json(told: &load::Told) -> String {
    // Numbers and texts: it cannot fail.
    serde_json::to_string(told).unwrap_or_default()
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    say(&format!("error: {error:#}"));
    let hint = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Problem>()?.hint_text());
    if let Some(hint) = hint {
        say(&format!("hint: {hint}"));
    }
    ExitCode::from(code)
}

fn tell(line: &str) {
    // A reader that has gone misses what is told, and no request is counted otherwise for it.
    let _ = writeln!(io::stdout(), "{line}");
}

fn say(line: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{line}");
}
