//! What is wrong enough to tell people: the one list that Prometheus' rules and docs/reference/alerts.md are made from.
//!
//! A server that nobody asks anything, or that does as it should, raises none of them. Thresholds are constants here, and
//! stand in the words of an alert as they do in its expression.

use anyhow::Result;
use minijinja::{Value, context};

use super::prometheus::ALERTS;
use super::query::{Scope, quantile};
use crate::serve::metrics::table::{
    BUILD_INFO, DRIFT, DRIFT_SAMPLES, DURATION, LOST_LINES, MISSING, PREDICTION_DRIFT, QUEUE_CAPACITY, QUEUE_DEPTH,
    READY, REFUSED, RELOAD_FAILURES, REQUESTS,
};
use crate::templates;

/// Share of requests that may fail over thirty days.
const OBJECTIVE: f64 = 0.001;
/// Failures in the longer window before their share says anything.
const FEW: u32 = 10;
/// How many times faster than the objective allows: its thirty days are gone in two, or in five.
const FAST: f64 = 14.4;
const SLOW: f64 = 6.0;
/// Seconds that 99 of 100 predictions should not take; a bound of the histogram, so that it is measured exactly.
const LATENCY: f64 = 0.25;
/// Share of requests that may be refused because the queue is full.
const REFUSALS: f64 = 0.01;
/// Share of the queue that may be full.
const CROWDED: f64 = 0.8;
/// Population stability index above which the data is another (Siddiqi 2006).
const DRIFTED: f64 = 0.25;
/// Predictions in the window before drift is believed.
const ENOUGH: u32 = 500;
/// Share of a column's values that may be missing.
const ABSENT: f64 = 0.2;

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Now: clients are not answered.
    Critical,
    /// In working hours.
    Warning,
}

impl Severity {
    /// As it is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// One alert.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// How soon somebody should look.
    pub severity: Severity,
    /// In `PromQL`; holds for as long as something is wrong.
    pub expression: String,
    /// For how long it must have held, in Prometheus' words.
    pub lasts: &'static str,
    /// A line with the values of the moment, by Prometheus' own templates.
    pub summary: String,
    /// The expression in words, with its threshold.
    pub when: String,
    /// What to do about it.
    pub action: &'static str,
}

impl Alert {
    /// As the template takes it.
    fn values(self) -> Value {
        context! {
            name => self.name,
            severity => self.severity.name(),
            expression => self.expression,
            lasts => self.lasts,
            summary => self.summary,
            description => format!("{} {}", self.when, self.action),
        }
    }
}

/// The alerts of a job.
pub fn alerts(job: &str) -> Vec<Alert> {
    let scope = Scope::job(job);
    [
        serving(job, &scope),
        load(job, &scope),
        data(job, &scope),
        upkeep(job, &scope),
    ]
    .concat()
}

/// Prometheus' file of them.
///
/// # Errors
///
/// A mistake in the template.
pub fn rules(job: &str) -> Result<String> {
    let alerts: Vec<Value> = alerts(job).into_iter().map(Alert::values).collect();
    let values = context! { job, file => ALERTS, alerts };
    templates::render(ALERTS, templates::ALERTS, values)
}

/// Whether clients get answers.
fn serving(job: &str, scope: &Scope) -> Vec<Alert> {
    let ready = scope.all(&READY);
    vec![
        Alert {
            name: "EmberlineUnavailable",
            severity: Severity::Critical,
            expression: format!("absent({ready} == 1)"),
            lasts: "1m",
            summary: format!("{job}: no replica is ready"),
            when: "No replica can be reached that says that it is ready.".into(),
            action: "`emberline status` shows what there is, `emberline logs` what it said; `emberline deploy` starts what \
                     is missing, `emberline rollback` goes back to the version before. Where replicas answer, it is \
                     Prometheus that does not reach them: its page /targets says why.",
        },
        Alert {
            name: "EmberlineReplicaDown",
            severity: Severity::Warning,
            expression: format!("up{{{}}} == 0 or {ready} == 0", scope.matcher()),
            lasts: "5m",
            summary: format!("{job}: replica {{{{ $labels.instance }}}} is down or not ready"),
            when: "A replica cannot be reached, or says that it is not ready.".into(),
            action: "`emberline status` shows its state and `emberline logs` what it said.",
        },
        errors(job, scope, "EmberlineErrors", FAST),
        errors(job, scope, "EmberlineErrorsPersist", SLOW),
    ]
}

/// Failures above a multiple of what the objective allows, in a long window, and in a short one so that it ends soon after
/// they have ended (The Site Reliability Workbook, 2018, chapter 5).
fn errors(job: &str, scope: &Scope, name: &'static str, burn: f64) -> Alert {
    let fast = burn > SLOW;
    let (long, short, severity, lasts) = if fast {
        ("1h", "5m", Severity::Critical, "2m")
    } else {
        ("6h", "30m", Severity::Warning, "15m")
    };
    let (failures, requests) = (scope.failures(&REQUESTS), scope.predictions(&REQUESTS));
    // As it is written: 14.4 times a thousandth has no short binary form.
    let limit = (burn * OBJECTIVE * 1e6).round() / 1e6;
    let above = |window| format!("sum(rate({failures}[{window}])) / sum(rate({requests}[{window}])) > {limit}");
    Alert {
        name,
        severity,
        expression: format!(
            "{}\nand {}\nand sum(increase({failures}[{long}])) >= {FEW}",
            above(long),
            above(short)
        ),
        lasts,
        summary: format!("{job}: {{{{ $value | humanizePercentage }}}} of the requests of {long} failed"),
        when: format!(
            "More than {} % of predictions ended with a status of 5xx in {long} and in {short}, {FEW} of them at the least. \
             The objective is {} % in 30 days; at this pace that is used up in {} days.",
            limit * 100.0,
            OBJECTIVE * 100.0,
            (30.0 / burn).round()
        ),
        action: "`emberline logs` says what failed; where a new version brought it, `emberline rollback` takes it back. \
                 504 are clients that waited longer than they said they would: see to the load then.",
    }
}

/// Whether they get them in time.
fn load(job: &str, scope: &Scope) -> Vec<Alert> {
    let more = "`emberline scale --replicas N` adds replicas; where it is one client that asks too much, the access log \
                names it (`emberline serve --access-log`).";
    vec![
        Alert {
            name: "EmberlineSlow",
            severity: Severity::Warning,
            expression: format!(
                "{} > {LATENCY}",
                quantile(0.99, &scope.prediction_buckets(&DURATION), &[], "5m")
            ),
            lasts: "10m",
            summary: format!("{job}: one of 100 predictions takes {{{{ $value | humanizeDuration }}}} or longer"),
            when: format!(
                "The 99th percentile of the time of predictions (not of explanations) in 5m is above {LATENCY} s."
            ),
            action: "Where requests wait for the model (`emberline_queue_duration_seconds`), `emberline scale --replicas N` \
                     adds replicas. Otherwise bodies are large, or clients send them slowly.",
        },
        Alert {
            name: "EmberlineOverloaded",
            severity: Severity::Warning,
            expression: format!(
                "sum(rate({}[5m])) / sum(rate({}[5m])) > {REFUSALS}",
                scope.all(&REFUSED),
                scope.predictions(&REQUESTS)
            ),
            lasts: "5m",
            summary: format!("{job}: {{{{ $value | humanizePercentage }}}} of requests are refused, the queue is full"),
            when: format!(
                "More than {} % of requests in 5m were refused with 429.",
                REFUSALS * 100.0
            ),
            action: more,
        },
        Alert {
            name: "EmberlineQueueCrowded",
            severity: Severity::Warning,
            expression: format!(
                "avg_over_time({}[5m]) / {} > {CROWDED}",
                scope.all(&QUEUE_DEPTH),
                scope.all(&QUEUE_CAPACITY)
            ),
            lasts: "5m",
            summary: format!(
                "{job}: the queue of {{{{ $labels.instance }}}} is {{{{ $value | humanizePercentage }}}} full"
            ),
            when: format!(
                "More than {} % of a queue was full, as the mean of 5m.",
                CROWDED * 100.0
            ),
            action: more,
        },
    ]
}

/// Whether the answers are still about what the model learnt.
fn data(job: &str, scope: &Scope) -> Vec<Alert> {
    let samples = scope.all(&DRIFT_SAMPLES);
    let enough = format!("and on (instance) {samples} >= {ENOUGH}");
    let action = "Look at what the inputs have become. Where that is how they will be from now on, collect and label some, \
                  then `emberline train`, `emberline evaluate` and `emberline deploy`.";
    vec![
        Alert {
            name: "EmberlineInputDrift",
            severity: Severity::Warning,
            expression: format!("max by (feature) ({} {enough}) > {DRIFTED}", scope.all(&DRIFT)),
            lasts: "30m",
            summary: format!(
                "{job}: {{{{ $labels.feature }}}} has drifted from training, PSI {{{{ $value | humanize }}}}"
            ),
            when: format!(
                "The population stability index of an input is above {DRIFTED}, in a window of {ENOUGH} predictions or more."
            ),
            action,
        },
        Alert {
            name: "EmberlinePredictionDrift",
            severity: Severity::Warning,
            expression: format!("max({} {enough}) > {DRIFTED}", scope.all(&PREDICTION_DRIFT)),
            lasts: "30m",
            summary: format!(
                "{job}: the predicted classes have drifted from training, PSI {{{{ $value | humanize }}}}"
            ),
            when: format!(
                "The population stability index of the predicted classes is above {DRIFTED}, in a window of {ENOUGH} \
                 predictions or more."
            ),
            action,
        },
        Alert {
            name: "EmberlineMissingValues",
            severity: Severity::Warning,
            expression: format!("max by (feature) ({} {enough}) > {ABSENT}", scope.all(&MISSING)),
            lasts: "30m",
            summary: format!(
                "{job}: {{{{ $value | humanizePercentage }}}} of {{{{ $labels.feature }}}} are missing or unknown"
            ),
            when: format!(
                "More than {} % of the values of a column are missing or names that training did not see, in a window of \
                 {ENOUGH} predictions or more.",
                ABSENT * 100.0
            ),
            action: "See whether a client has renamed or dropped the column. Where training had as many, raise the number.",
        },
    ]
}

/// Whether the service is kept as it should be.
fn upkeep(job: &str, scope: &Scope) -> Vec<Alert> {
    vec![
        Alert {
            name: "EmberlineReloadFailed",
            severity: Severity::Warning,
            expression: format!(
                "sum by (instance, file) (increase({}[1h])) > 0",
                scope.all(&RELOAD_FAILURES)
            ),
            lasts: "0m",
            summary: format!("{job}: {{{{ $labels.instance }}}} could not take a change of its {{{{ $labels.file }}}}"),
            when: "The key file or the TLS certificate was changed in the last hour to something that cannot be taken."
                .into(),
            action: "What was there before stays in force: a key that was taken out is good, and a certificate runs out. \
                     `emberline logs` says what is wrong with the file.",
        },
        Alert {
            name: "EmberlineLogLinesLost",
            severity: Severity::Warning,
            expression: format!("sum by (instance) (increase({}[15m])) > 0", scope.all(&LOST_LINES)),
            lasts: "0m",
            summary: format!(
                "{job}: the access log of {{{{ $labels.instance }}}} has lost {{{{ $value | humanize }}}} lines"
            ),
            when: "Lines of the access log were lost in 15m, because nobody took them in time.".into(),
            action: "See to whatever reads the log: a full disk, or a collector that stands still. Requests were answered \
                     all the same.",
        },
        Alert {
            name: "EmberlineVersionsDiffer",
            severity: Severity::Warning,
            expression: format!("count(count by (version) ({})) > 1", scope.all(&BUILD_INFO)),
            lasts: "30m",
            summary: format!("{job}: {{{{ $value }}}} versions are served at once"),
            when: "Replicas serve more than one version of the model.".into(),
            action: "A deploy has stopped half-way: `emberline status` shows how far it is, `emberline deploy` goes on with \
                     it and `emberline rollback` goes back.",
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn the_file_says_what_the_list_says() {
        let text = rules("digits").expect("rendered");
        assert!(!text.contains("\\u00"), "an escape that nobody can read:\n{text}");
        let file: Json = serde_saphyr::from_str(&text).expect("YAML");
        let group = &file["groups"][0];
        assert_eq!(group["name"], "emberline-digits");
        let rules = group["rules"].as_array().expect("rules");
        let list = alerts("digits");
        assert_eq!(rules.len(), list.len());
        for (rule, alert) in rules.iter().zip(list) {
            assert_eq!(rule["alert"], alert.name);
            assert_eq!(rule["expr"], alert.expression.as_str());
            assert_eq!(rule["for"], alert.lasts);
            assert_eq!(rule["labels"]["severity"], alert.severity.name());
            assert_eq!(rule["labels"]["job"], "digits");
            assert_eq!(rule["annotations"]["summary"], alert.summary.as_str());
            let description = rule["annotations"]["description"].as_str().expect("a description");
            assert!(description.starts_with(&alert.when) && description.ends_with(alert.action));
            assert!(description.contains('`') || alert.name != "EmberlineUnavailable");
        }
    }

    #[test]
    fn every_alert_is_about_the_job_alone_and_has_a_name_of_its_own() {
        let list = alerts("digits");
        let names: BTreeSet<&str> = list.iter().map(|alert| alert.name).collect();
        assert_eq!(names.len(), list.len());
        for alert in list {
            let selectors = alert.expression.matches('{').count();
            assert_eq!(
                alert.expression.matches(r#"{job="digits""#).count(),
                selectors,
                "{}",
                alert.expression
            );
            assert!(selectors > 0);
        }
    }

    #[test]
    fn numbers_are_written_as_people_write_them() {
        let list = alerts("digits");
        let words = |name: &str| list.iter().find(|alert| alert.name == name).expect(name).when.clone();
        assert!(
            words("EmberlineErrors").starts_with("More than 1.44 % of predictions"),
            "{}",
            words("EmberlineErrors")
        );
        assert!(
            words("EmberlineErrors")
                .ends_with("The objective is 0.1 % in 30 days; at this pace that is used up in 2 days.")
        );
        assert!(words("EmberlineErrorsPersist").starts_with("More than 0.6 % of predictions"));
        assert!(words("EmberlineOverloaded").starts_with("More than 1 % of requests"));
    }
}
