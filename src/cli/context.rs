//! What every command is handed besides its own arguments.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};

use super::args::Global;
use super::output::Output;
use crate::project::{self, Project, Source};
use crate::templates;

/// The printer, and how to find the project.
#[derive(Debug)]
pub struct Context {
    /// The only way to stdout and stderr.
    pub output: Output,
    destination: Option<String>,
    interrupt: OnceLock<Arc<AtomicBool>>,
}

impl Context {
    pub(super) fn new(output: Output, global: &Global) -> Self {
        Self {
            output,
            destination: global.destination.clone(),
            interrupt: OnceLock::new(),
        }
    }

    /// Reads the project in `folder`, with the overlay that `--destination` names.
    ///
    /// # Errors
    ///
    /// What is wrong with `emberline.yaml`, and where.
    pub fn project(&self, folder: &Path) -> Result<Project> {
        let project = project::load(folder, self.destination.as_deref())?;
        templates::prefer(&project.folder);
        Ok(project)
    }

    /// The overlay that `--destination` names.
    pub(super) fn destination(&self) -> Option<&str> {
        self.destination.as_deref()
    }

    /// Warns when `--data-dir` names MNIST files for a project that reads none.
    pub(super) fn check_data_dir(&self, project: &Project, data_dir: Option<&Path>) {
        if let Some(folder) = data_dir.filter(|_| !project.config.reads(Source::Mnist)) {
            self.output.warn(&format!(
                "`{}` is not read: --data-dir is for `source: mnist`, and this project has no such data",
                folder.display()
            ));
        }
    }

    /// Has the first Ctrl-C (or SIGTERM) end the process with code 130, for work that goes on until then.
    ///
    /// # Errors
    ///
    /// When the system refuses the handler.
    pub fn end_at_interrupt() -> Result<()> {
        let armed = Arc::new(AtomicBool::new(true));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&armed))
                .context("cannot watch for Ctrl-C")?;
        }
        Ok(())
    }

    /// A flag that the first Ctrl-C (or SIGTERM) raises, for work that ends cleanly; the second one ends the process
    /// with code 130. Commands that do not ask for it are ended by the first.
    ///
    /// # Errors
    ///
    /// When the system refuses the handler.
    pub fn interrupt(&self) -> Result<Arc<AtomicBool>> {
        if let Some(flag) = self.interrupt.get() {
            return Ok(Arc::clone(flag));
        }
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
                .context("cannot watch for Ctrl-C")?;
        }
        Ok(Arc::clone(self.interrupt.get_or_init(|| flag)))
    }
}
