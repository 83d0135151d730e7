//! What the data room tells, on the screen.

use std::cell::RefCell;

use indicatif::ProgressBar;

use super::output::{Output, ProgressMode};
use crate::data::Event;

/// Draws downloads as a bar and tells the rest in lines.
pub(super) struct DataProgress<'a> {
    output: &'a Output,
    download: RefCell<Option<(&'static str, ProgressBar)>>,
}

impl<'a> DataProgress<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self {
            output,
            download: RefCell::new(None),
        }
    }

    pub(super) fn show(&self, event: &Event) {
        if self.output.progress_mode() == ProgressMode::Json {
            self.output.event(event);
            return;
        }
        match event {
            Event::Drawing { count } => self.output.note(&format!("drawing {count} digits")),
            Event::LeftOut { file, rows } => self.output.warn(&format!(
                "`{}`: {rows} rows with a missing value are left out",
                file.display()
            )),
            Event::Downloading { file, received, total } => {
                let mut download = self.download.borrow_mut();
                if download.as_ref().is_none_or(|(name, _)| name != file) {
                    self.output.note(&format!("downloading {file}"));
                    let bar = self.output.bar(
                        total.unwrap_or_default(),
                        "{msg} {bar:24.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec}",
                    );
                    bar.set_message(*file);
                    *download = Some((file, bar));
                }
                if let Some((_, bar)) = download.as_ref() {
                    bar.set_position(*received);
                    if Some(*received) == *total {
                        bar.finish_and_clear();
                    }
                }
            }
        }
    }
}
