//! Prometheus' text format, version 0.0.4, and the histograms that are told in it. What is counted is in `metrics`.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use super::metrics::table::{Kind, Metric};

/// Observations are whole numbers (nanoseconds, inputs), so that their sum is one atomic addition; `scale` of them make
/// one unit of the metric.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    scale: f64,
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing observed yet; `bounds` are ascending, in units of the metric.
    pub fn new(bounds: &'static [f64], scale: f64) -> Self {
        Self {
            bounds,
            scale,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let scaled = value as f64 / self.scale;
        let bin = self.bounds.partition_point(|bound| *bound < scaled);
        self.counts[bin].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }
}

/// The text under construction.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// The text so far.
    pub fn into_text(self) -> String {
        self.text
    }

    /// What a metric is. Its samples have to follow at once.
    pub fn head(&mut self, metric: &Metric) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let Metric { name, help, .. } = metric;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A metric without labels.
    pub fn single(&mut self, metric: &Metric, value: impl Display) {
        self.head(metric);
        self.sample(metric, &[], value);
    }

    /// One sample; `labels` are the values, in the order of the metric's names.
    pub fn sample(&mut self, metric: &Metric, labels: &[&str], value: impl Display) {
        let pairs = metric.labels.iter().copied().zip(labels.iter().copied());
        self.line(metric.name, "", pairs, value);
    }

    /// The samples of a histogram.
    pub fn histogram(&mut self, metric: &Metric, labels: &[&str], histogram: &Histogram) {
        let pairs = || metric.labels.iter().copied().zip(labels.iter().copied());
        let mut below = 0;
        for (index, count) in histogram.counts.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            let bound = histogram
                .bounds
                .get(index)
                .map_or_else(|| "+Inf".to_owned(), f64::to_string);
            self.line(metric.name, "_bucket", pairs().chain([("le", bound.as_str())]), below);
        }
        let sum = histogram.sum.load(Ordering::Relaxed) as f64 / histogram.scale;
        self.line(metric.name, "_sum", pairs(), sum);
        self.line(metric.name, "_count", pairs(), below);
    }

    fn line<'a>(
        &mut self,
        name: &str,
        suffix: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: impl Display,
    ) {
        let labels: Vec<String> = labels
            .map(|(label, value)| format!("{label}=\"{}\"", escape(value)))
            .collect();
        let labels = match labels.join(",") {
            none if none.is_empty() => none,
            some => format!("{{{some}}}"),
        };
        let _ = writeln!(self.text, "{name}{suffix}{labels} {value}");
    }
}

/// A label's value: class names come from the user's data and hold anything.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
