//! What was measured beside what was asked for: one line a figure, as soon as it is known.

/// What a figure is to reach.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// A ratio of at least so much.
    Ratio(f64),
    /// Less than so many milliseconds.
    Milliseconds(f64),
    /// Less than so many MiB.
    Mebibytes(f64),
}

impl Goal {
    fn is_met(self, median: f64) -> bool {
        match self {
            Self::Ratio(least) => median >= least,
            Self::Milliseconds(most) | Self::Mebibytes(most) => median < most,
        }
    }

    /// Met by far less: what a machine that does other work as well cannot be blamed for missing. A core that was taken
    /// away for some milliseconds says nothing of a server, so times are given more.
    fn is_nearly_met(self, median: f64) -> bool {
        match self {
            Self::Ratio(least) => median >= least / 2.0,
            Self::Milliseconds(most) => median < most * 10.0,
            Self::Mebibytes(most) => median < most * 2.0,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Ratio(_) => "",
            Self::Milliseconds(_) => " ms",
            Self::Mebibytes(_) => " MiB",
        }
    }

    fn text(self) -> String {
        match self {
            Self::Ratio(least) => format!("at least {least}"),
            Self::Milliseconds(most) | Self::Mebibytes(most) => format!("below {most}{}", self.unit()),
        }
    }
}

/// Several measurements of one thing.
#[derive(Clone, Debug)]
pub struct Spread(Vec<f64>);

impl Spread {
    pub fn new(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "something was measured");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.0[middle]
        } else {
            f64::midpoint(self.0[middle - 1], self.0[middle])
        }
    }

    fn text(&self, unit: &str) -> String {
        let (least, most) = (self.0[0], self.0[self.0.len() - 1]);
        let count = self.0.len();
        format!(
            "{:.3}{unit} (median of {count}, {least:.3} to {most:.3})",
            self.median()
        )
    }
}

/// The figures of a run.
#[derive(Debug)]
pub struct Report {
    short: bool,
    missed: Vec<String>,
}

impl Report {
    /// `short` runs are too few to judge by: only what is grossly wrong counts.
    pub fn new(short: bool) -> Self {
        Self {
            short,
            missed: Vec::new(),
        }
    }

    /// A figure that has a goal.
    pub fn figure(&mut self, name: &str, measured: Vec<f64>, goal: Goal, details: &str) {
        let measured = Spread::new(measured);
        let median = measured.median();
        let verdict = if goal.is_met(median) { "met" } else { "MISSED" };
        let (goal_text, measured) = (goal.text(), measured.text(goal.unit()));
        self.note(&format!(
            "{name}: {measured}; goal {goal_text}: {verdict}\n    {details}"
        ));
        let is_enough = if self.short {
            goal.is_nearly_met(median)
        } else {
            goal.is_met(median)
        };
        if !is_enough {
            self.missed.push(name.to_owned());
        }
    }

    /// A figure that cannot be measured, which is a goal missed.
    pub fn miss(&mut self, name: &str, reason: &str) {
        self.note(&format!("{name}: MISSED\n    {reason}"));
        self.missed.push(name.to_owned());
    }

    /// A line that has none.
    #[allow(clippy::print_stdout, clippy::unused_self)] // a bench reports on stdout, and through its report
    pub fn note(&self, line: &str) {
        println!("{line}");
    }

    /// The figures that were missed.
    pub fn missed(&self) -> &[String] {
        &self.missed
    }
}
