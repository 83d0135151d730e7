//! The curve of a measurement for a terminal: a bar for each rate, as long as the time to answer on a logarithmic axis, and
//! the objective as a line through all of them.

use anstyle::{AnsiColor, Style};

use super::figures;
use crate::bundle::capacity::{Slo, Step, Verdict};

/// What stands between the columns.
const GAP: &str = "  ";
/// The shortest bars that say anything.
const LEAST: usize = 10;

/// The steps by their rates, in lines of up to `width` letters.
pub fn curve(steps: &[Step], slo: &Slo, width: usize) -> String {
    let mut steps: Vec<&Step> = steps.iter().collect();
    steps.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    let time = |step: &Step| step.time(slo.percentile);
    let rows: Vec<[String; 3]> = steps
        .iter()
        .map(|step| {
            let told = time(step).map_or_else(|| "-".to_owned(), figures::time);
            [figures::amount(step.rate), told, remark(step, slo)]
        })
        .collect();
    let heads = ["requests/s", slo.percentile.name()];
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let [rates, times] = [0, 1].map(|column| widest(column).max(heads[column].len()));
    let room = width
        .saturating_sub(rates + times + widest(2) + 3 * GAP.len())
        .max(LEAST);
    let axis = Axis::new(
        steps.iter().filter_map(|step| time(step)),
        slo.within.as_secs_f64(),
        room,
    );
    let mut lines = vec![format!("{:>rates$}{GAP}{:>times$}", heads[0], heads[1])];
    for (step, [rate, told, remark]) in steps.iter().zip(&rows) {
        let style = style(step.verdict(slo));
        let bar = axis.bar(time(step));
        let bar = if remark.is_empty() { bar.trim_end() } else { &bar };
        lines.push(
            format!("{rate:>rates$}{GAP}{told:>times$}{GAP}{style}{bar}{style:#}{GAP}{remark}")
                .trim_end()
                .to_owned(),
        );
    }
    let before = rates + times + 2 * GAP.len() + axis.limit;
    let label = figures::time(slo.within.as_secs_f64());
    // It ends at the line when there is no room beside it.
    if before + 2 + label.len() <= width {
        lines.push(format!("{:before$}└ {label}", ""));
    } else {
        lines.push(format!("{label:>width$} ┘", width = before.saturating_sub(1)));
    }
    lines.join("\n")
}

/// What is to be said of a step besides its time.
fn remark(step: &Step, slo: &Slo) -> String {
    match step.verdict(slo) {
        Verdict::Met => String::new(),
        Verdict::Behind => "sent too late".to_owned(),
        Verdict::Missed if step.failed > 0 => {
            format!(
                "{} of {} failed",
                figures::count(step.failed),
                figures::count(step.sent)
            )
        }
        Verdict::Missed => "missed".to_owned(),
    }
}

fn style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Met => AnsiColor::Green,
        Verdict::Missed => AnsiColor::Red,
        Verdict::Behind => AnsiColor::Yellow,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// A logarithmic axis.
struct Axis {
    low: f64,
    span: f64,
    room: usize,
    /// The column of the objective.
    limit: usize,
}

impl Axis {
    fn new(times: impl Iterator<Item = f64>, within: f64, room: usize) -> Self {
        let all: Vec<f64> = times.chain([within]).map(|time| time.max(1e-6).ln()).collect();
        let low = all.iter().copied().fold(f64::INFINITY, f64::min);
        let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // The shortest time has a bar as well.
        let low = low - ((high - low) / 8.0).max(0.1);
        let mut axis = Self {
            low,
            span: high - low,
            room,
            limit: 0,
        };
        axis.limit = axis.column(within).min(room - 1);
        axis
    }

    fn column(&self, time: f64) -> usize {
        let share = (time.max(1e-6).ln() - self.low) / self.span;
        (share * self.room as f64).round() as usize
    }

    fn bar(&self, time: Option<f64>) -> String {
        let end = time.map_or(0, |time| self.column(time));
        let cell = |column: usize| match column {
            _ if column == self.limit => '│',
            _ if column < end => '█',
            _ => ' ',
        };
        (0..self.room).map(cell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(rate: f64, millis: f64) -> Step {
        Step {
            rate,
            sent: 640,
            p99_seconds: Some(millis / 1e3),
            ..Step::default()
        }
    }

    fn plain(steps: &[Step], width: usize) -> String {
        let slo = "p99=20ms".parse().expect("an objective");
        anstream::adapter::strip_str(&curve(steps, &slo, width)).to_string()
    }

    #[test]
    fn a_curve_has_a_bar_for_each_rate_and_the_objective_through_all() {
        let steps = [
            step(20.0, 2.0),
            step(80.0, 2.5),
            step(1280.0, 310.0),
            Step {
                failed: 12,
                ..step(1280.0, 400.0)
            },
            step(320.0, 8.0),
            step(640.0, 19.0),
            Step {
                behind_seconds: 0.02,
                ..step(900.0, 31.0)
            },
        ];
        let text = plain(&steps, 70);
        assert_eq!(
            text,
            "\
requests/s     p99
        20  2.0 ms  ████            │
        80  2.5 ms  █████           │
       320  8.0 ms  ███████████     │
       640   19 ms  ████████████████│
       900   31 ms  ████████████████│█                sent too late
     1,280  310 ms  ████████████████│██████████████   missed
     1,280  400 ms  ████████████████│███████████████  12 of 640 failed
                                    └ 20 ms"
        );
    }

    #[test]
    fn it_keeps_to_its_width_whatever_was_measured() {
        let nothing = Step {
            rate: 20.0,
            sent: 40,
            failed: 40,
            ..Step::default()
        };
        for steps in [
            vec![],
            vec![nothing],
            vec![step(20.0, 20.0)],
            vec![step(5.0, 0.01), step(5e4, 1e4)],
        ] {
            for width in [60, 80, 120] {
                let text = plain(&steps, width);
                assert!(
                    text.lines().all(|line| line.chars().count() <= width),
                    "{width}:\n{text}"
                );
                assert!(text.contains("20 ms"), "{text}");
            }
        }
    }
}
