//! The text of `/metrics`, Prometheus' format: each metric of the table once, in its order.

use std::sync::atomic::Ordering;

use super::table::{
    ABANDONED, BATCH_SIZE, BUILD_INFO, CACHE_ENTRIES, CACHE_HIT_RATIO, CACHE_LOOKUPS, CONFIDENCE, CONNECTIONS, CPU,
    DISPATCHES, DRIFT, DRIFT_SAMPLES, DURATION, IN_FLIGHT, LOST_LINES, MEMORY, MISSING, PREDICTION_DRIFT, PREDICTIONS,
    QUEUE_CAPACITY, QUEUE_DEPTH, QUEUE_TIME, READY, REFUSED, RELOAD_FAILURES, REQUESTS,
};
use super::{Dispatch, Metrics, Protocol, STATUS};
use crate::serve::cache;
use crate::serve::drift::Reading;
use crate::serve::exposition::Page;
use crate::usage::Usage;

/// What `/metrics` tells besides the counts.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// Requests that wait for the model.
    pub queue_depth: usize,
    /// Requests that can wait for the model.
    pub queue_capacity: usize,
    /// How the cache does, if there is one.
    pub cache: Option<cache::Reading>,
    /// Changes of each kind of file that could not be taken.
    pub reload_failures: [(&'static str, u64); 2],
    /// Lines that the access log has not.
    pub lost_lines: u64,
    /// What the process has used, where the system tells.
    pub process: Option<Usage>,
    /// Whether the server is ready.
    pub ready: bool,
    /// Name of the model.
    pub model: &'a str,
    /// Version of the bundle.
    pub version: &'a str,
    /// Digest of the bundle.
    pub digest: &'a str,
    /// Names of the classes.
    pub classes: &'a [String],
    /// What the window of drift says.
    pub drift: &'a Reading<'a>,
}

impl Metrics {
    /// All of it in Prometheus' text format, version 0.0.4.
    pub fn render(&self, now: &Snapshot<'_>) -> String {
        let mut page = Page::default();
        page.head(&REQUESTS);
        for protocol in Protocol::ALL {
            for (status, count) in STATUS.iter().zip(&self.requests[protocol as usize]) {
                page.sample(&REQUESTS, &[protocol.name(), status], count.load(Ordering::Relaxed));
            }
        }
        page.head(&DURATION);
        for protocol in Protocol::ALL {
            page.histogram(&DURATION, &[protocol.name()], &self.durations[protocol as usize]);
        }
        page.single(&IN_FLIGHT, self.in_flight());
        page.single(&CONNECTIONS, self.connections.load(Ordering::Relaxed));
        page.single(&QUEUE_DEPTH, now.queue_depth);
        page.single(&QUEUE_CAPACITY, now.queue_capacity);
        page.head(&BATCH_SIZE);
        page.histogram(&BATCH_SIZE, &[], &self.batches);
        page.head(&DISPATCHES);
        for reason in Dispatch::ALL {
            let count = self.dispatches[reason as usize].load(Ordering::Relaxed);
            page.sample(&DISPATCHES, &[reason.name()], count);
        }
        page.head(&QUEUE_TIME);
        page.histogram(&QUEUE_TIME, &[], &self.queue_times);
        page.single(&ABANDONED, self.abandoned.load(Ordering::Relaxed));
        page.single(&REFUSED, self.refused.load(Ordering::Relaxed));
        cached(&mut page, now.cache);
        page.head(&PREDICTIONS);
        for (class, count) in now.classes.iter().zip(&self.predictions) {
            page.sample(&PREDICTIONS, &[class], count.load(Ordering::Relaxed));
        }
        page.head(&CONFIDENCE);
        page.histogram(&CONFIDENCE, &[], &self.confidences);
        drift(&mut page, now.drift);
        page.head(&RELOAD_FAILURES);
        for (file, count) in now.reload_failures {
            page.sample(&RELOAD_FAILURES, &[file], count);
        }
        page.single(&LOST_LINES, now.lost_lines);
        page.head(&CPU);
        if let Some(process) = now.process {
            page.sample(&CPU, &[], process.cpu_seconds);
        }
        page.head(&MEMORY);
        if let Some(process) = now.process {
            page.sample(&MEMORY, &[], process.resident_bytes);
        }
        page.single(&READY, u8::from(now.ready));
        page.head(&BUILD_INFO);
        page.sample(
            &BUILD_INFO,
            &[now.model, now.version, now.digest, env!("CARGO_PKG_VERSION")],
            1,
        );
        page.into_text()
    }
}

/// What the cache says, and nothing where there is none.
fn cached(page: &mut Page, reading: Option<cache::Reading>) {
    page.head(&CACHE_LOOKUPS);
    if let Some(reading) = reading {
        page.sample(&CACHE_LOOKUPS, &["hit"], reading.hits);
        page.sample(&CACHE_LOOKUPS, &["miss"], reading.misses);
    }
    page.head(&CACHE_HIT_RATIO);
    if let Some(reading) = reading.filter(|reading| reading.hits + reading.misses > 0) {
        let ratio = reading.hits as f64 / (reading.hits + reading.misses) as f64;
        page.sample(&CACHE_HIT_RATIO, &[], ratio);
    }
    page.head(&CACHE_ENTRIES);
    if let Some(reading) = reading {
        page.sample(&CACHE_ENTRIES, &[], reading.entries);
    }
}

/// What the window says, and nothing where it does not say anything yet.
fn drift(page: &mut Page, reading: &Reading<'_>) {
    page.single(&DRIFT_SAMPLES, reading.samples);
    page.head(&DRIFT);
    for feature in &reading.features {
        if let Some(index) = feature.index {
            page.sample(&DRIFT, &[feature.name], index);
        }
    }
    page.head(&PREDICTION_DRIFT);
    if let Some(index) = reading.predictions {
        page.sample(&PREDICTION_DRIFT, &[], index);
    }
    page.head(&MISSING);
    for feature in &reading.features {
        if let Some(missing) = feature.missing {
            page.sample(&MISSING, &[feature.name], missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::StatusCode;

    use super::super::table::TABLE;
    use super::*;
    use crate::serve::drift::FeatureReading;

    fn page(metrics: &Metrics) -> String {
        let drift = Reading {
            samples: 600,
            predictions: Some(0.5),
            features: vec![FeatureReading {
                name: "age",
                index: Some(0.125),
                missing: Some(0.25),
            }],
        };
        metrics.render(&Snapshot {
            queue_depth: 3,
            queue_capacity: 8,
            reload_failures: [("keys", 1), ("certificate", 0)],
            lost_lines: 0,
            process: Some(Usage {
                cpu_seconds: 0.25,
                resident_bytes: 4096,
            }),
            cache: Some(cache::Reading {
                hits: 1,
                misses: 1,
                entries: 1,
            }),
            ready: true,
            model: "m",
            version: "v",
            digest: "d",
            classes: &["a\"b\\\n".to_owned(), "c".to_owned()],
            drift: &drift,
        })
    }

    #[test]
    fn every_metric_of_the_table_is_told_once_with_its_labels() {
        let metrics = Metrics::new(2);
        let page = page(&metrics);
        let told: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let table: Vec<&str> = TABLE.iter().map(|metric| metric.name).collect();
        assert_eq!(told, table);
        for metric in TABLE {
            let sample = page
                .lines()
                .find(|line| line.starts_with(metric.name))
                .expect("a sample");
            for label in metric.labels {
                assert!(sample.contains(&format!("{label}=\"")), "{sample}");
            }
        }
    }

    #[test]
    fn histograms_are_cumulative_and_in_units() {
        let metrics = Metrics::new(1);
        for micros in [50, 100, 101, 20_000_000] {
            metrics.answered(Protocol::V1, StatusCode::OK, Duration::from_micros(micros));
        }
        let page = page(&metrics);
        let has = |line: &str| assert!(page.contains(line), "{line}\n{page}");
        has("emberline_request_duration_seconds_bucket{protocol=\"v1\",le=\"0.0001\"} 2\n");
        has("emberline_request_duration_seconds_bucket{protocol=\"v1\",le=\"0.00025\"} 3\n");
        has("emberline_request_duration_seconds_bucket{protocol=\"v1\",le=\"10\"} 3\n");
        has("emberline_request_duration_seconds_bucket{protocol=\"v1\",le=\"+Inf\"} 4\n");
        has("emberline_request_duration_seconds_sum{protocol=\"v1\"} 20.000251\n");
        has("emberline_request_duration_seconds_count{protocol=\"v1\"} 4\n");
        has("emberline_requests_total{protocol=\"v1\",status=\"2xx\"} 4\n");
    }

    #[test]
    fn confidence_is_counted_in_shares_and_drift_is_told_when_it_is_known() {
        let metrics = Metrics::new(2);
        metrics.predicted(0, 0.5);
        metrics.predicted(1, 1.0);
        let page = page(&metrics);
        let has = |line: &str| assert!(page.contains(line), "{line}\n{page}");
        has("emberline_prediction_confidence_bucket{le=\"0.5\"} 1\n");
        has("emberline_prediction_confidence_bucket{le=\"0.99\"} 1\n");
        has("emberline_prediction_confidence_sum 1.5\n");
        has("emberline_drift_window_samples 600\n");
        has("emberline_drift_psi{feature=\"age\"} 0.125\n");
        has("emberline_prediction_drift_psi 0.5\n");
        has("emberline_drift_missing_ratio{feature=\"age\"} 0.25\n");
        let mut early = Page::default();
        drift(
            &mut early,
            &Reading {
                samples: 1,
                predictions: None,
                features: Vec::new(),
            },
        );
        let early = early.into_text();
        assert!(early.contains("# TYPE emberline_drift_psi gauge\n"), "{early}");
        assert!(
            early
                .lines()
                .all(|line| line.starts_with('#') || line == "emberline_drift_window_samples 1")
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let page = page(&Metrics::new(2));
        assert!(
            page.contains("emberline_predictions_total{class=\"a\\\"b\\\\\\n\"} 0\n"),
            "{page}"
        );
    }

    #[test]
    fn only_predictions_count_as_requests_of_the_model() {
        let metrics = Metrics::new(1);
        metrics.answered(Protocol::Other, StatusCode::OK, Duration::ZERO);
        metrics.answered(Protocol::V2, StatusCode::TOO_MANY_REQUESTS, Duration::ZERO);
        assert_eq!(metrics.requests_total(), 1);
        let page = page(&metrics);
        assert!(page.contains("emberline_requests_refused_total 1\n"), "{page}");
    }
}
