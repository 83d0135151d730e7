//! A Grafana dashboard of every metric that the server has: what matters most in a first row laid out by hand, and then a
//! panel for each metric of the table, by its kind and unit.
//!
//! It is built as values and no template, because most of it is not written but follows from the table: a metric that is
//! added there has its panel here. The data source is a variable and no `__inputs`, which Grafana fills in when a person
//! imports a file and leaves alone when a file is provisioned.

use serde_json::{Value, json};

use super::panel::{Panel, Query, View, source, unit};
use super::query::{Scope, quantile};
use crate::serve::metrics::table::{
    BUILD_INFO, DRIFT, DURATION, Kind, Metric, PREDICTION_DRIFT, QUEUE_CAPACITY, QUEUE_DEPTH, READY, REQUESTS, TABLE,
};

/// The version of the schema, as Grafana 11 writes it; later ones read it.
const SCHEMA: u32 = 39;
/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;
/// At least four scrapes, by Grafana's own reckoning.
const WINDOW: &str = "$__rate_interval";

/// The dashboard, which shows `model` when it is opened.
pub fn dashboard(model: &str) -> Value {
    let scope = Scope::chosen();
    let of_kind = |kind| {
        let metrics = TABLE.into_iter().filter(move |metric| metric.kind == kind);
        metrics.flat_map(|metric| panels_of(metric, &scope)).collect()
    };
    let rows: [(&str, Vec<Panel>); 4] = [
        ("Overview", overview(&scope)),
        ("Counters, as rates", of_kind(Kind::Counter)),
        ("Gauges", of_kind(Kind::Gauge)),
        ("Histograms", of_kind(Kind::Histogram)),
    ];
    json!({
        "id": null,
        "uid": "emberline",
        "title": "emberline",
        "description": "Models that emberline serves. Made by `emberline monitor grafana`.",
        "tags": ["emberline"],
        "schemaVersion": SCHEMA,
        "editable": true,
        // One cross-hair for all panels.
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": variables(model)},
        "annotations": {"list": []},
        "links": [],
        "panels": laid_out(rows),
    })
}

/// The choices at the top: a data source, a model in it, and servers of that.
fn variables(model: &str) -> Value {
    let query = |name: &str, label: &str, query: String| {
        json!({
            "name": name,
            "label": label,
            "type": "query",
            "datasource": source(),
            "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            // Servers come and go: they are asked for anew whenever the time that is looked at changes.
            "refresh": 2,
            "sort": 1,
        })
    };
    let info = BUILD_INFO.name;
    let mut models = query("model", "Model", format!("label_values({info}, model)"));
    models["current"] = json!({"text": model, "value": model});
    let servers = format!("label_values({info}{{model=\"$model\"}}, instance)");
    let mut servers = query("instance", "Server", servers);
    servers["multi"] = json!(true);
    servers["includeAll"] = json!(true);
    servers["current"] = json!({"text": ["All"], "value": ["$__all"]});
    json!([
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        models,
        servers,
    ])
}

/// What matters most.
fn overview(scope: &Scope) -> Vec<Panel> {
    let rate = |series: String| format!("sum(rate({series}[{WINDOW}]))");
    let requests = rate(scope.predictions(&REQUESTS));
    let failed = format!("{} / {requests}", rate(scope.failures(&REQUESTS)));
    let late = |share| quantile(share, &scope.prediction_buckets(&DURATION), &[], WINDOW);
    let (drift, prediction_drift) = (scope.all(&DRIFT), scope.all(&PREDICTION_DRIFT));
    let (depth, capacity) = (scope.all(&QUEUE_DEPTH), scope.all(&QUEUE_CAPACITY));
    let versions = format!("count by (model, version) ({})", scope.all(&BUILD_INFO));
    let panel = |title: &str, description: &str, view, unit: &str, limits, size, queries| Panel {
        title: title.to_owned(),
        description: description.to_owned(),
        view,
        unit: unit.to_owned(),
        limits,
        queries,
        size,
    };
    let number = |title, description, unit, limits, query: String| {
        let queries = vec![Query::new(query, "")];
        panel(title, description, View::Number, unit, limits, [4, 4], queries)
    };
    vec![
        number(
            "Ready",
            "Replicas that are ready.",
            "none",
            None,
            format!("sum({})", scope.all(&READY)),
        ),
        number(
            "Predictions",
            "Prediction requests in a second.",
            "reqps",
            None,
            requests,
        ),
        number(
            "Failed",
            "Share of prediction requests that ended with a status of 5xx.",
            "percentunit",
            Some([0.001, 0.01]),
            failed,
        ),
        number(
            "p99",
            "99 of 100 predictions take this long or less; explanations are left out.",
            "s",
            Some([0.1, 0.25]),
            late(0.99),
        ),
        number(
            "Queue",
            "How full the fullest queue is. A full one refuses requests with 429.",
            "percentunit",
            Some([0.5, 0.8]),
            format!("max({depth} / {capacity})"),
        ),
        number(
            "Drift",
            "The greatest population stability index: below 0.1 nothing has changed, above 0.25 much has.",
            "none",
            Some([0.1, 0.25]),
            format!("max({drift} or {prediction_drift})"),
        ),
        panel(
            "Predictions by status",
            "Prediction requests in a second, by class of status.",
            View::Stacked,
            "reqps",
            None,
            [8, 8],
            vec![Query::new(
                format!("sum by (status) (rate({}[{WINDOW}]))", scope.predictions(&REQUESTS)),
                "{{status}}",
            )],
        ),
        panel(
            "Time of predictions",
            "From the head of a request to its answer; explanations are left out.",
            View::Lines,
            "s",
            None,
            [8, 8],
            QUANTILES.map(|share| Query::new(late(share), percentile(share))).into(),
        ),
        panel(
            "Queue and its capacity",
            "Prediction requests that wait for the model, and how many can.",
            View::Lines,
            "suffix:requests",
            None,
            [8, 8],
            vec![
                Query::new(format!("sum({depth})"), "waiting"),
                Query::new(format!("sum({capacity})"), "capacity"),
            ],
        ),
        panel(
            "Drift from training",
            "Population stability index of each input and of the predicted classes; the replica that has drifted furthest.",
            View::Lines,
            "none",
            Some([0.1, 0.25]),
            [12, 8],
            vec![
                Query::new(format!("max by (feature) ({drift})"), "{{feature}}"),
                Query::new(format!("max({prediction_drift})"), "predictions"),
            ],
        ),
        panel(
            "Versions",
            "Replicas by the version that they serve.",
            View::Stacked,
            "suffix:replicas",
            None,
            [12, 8],
            vec![Query::new(versions, "{{model}} {{version}}")],
        ),
    ]
}

/// Quantiles of a histogram, where the large values are the bad ones.
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];
/// And where the small ones are.
const LOW_QUANTILES: [f64; 3] = [0.5, 0.05, 0.01];

/// The panels of one metric.
fn panels_of(metric: &Metric, scope: &Scope) -> Vec<Panel> {
    let title = title(metric);
    let panel = |title: &str, view, size, queries| Panel {
        title: title.to_owned(),
        description: format!("`{}`: {}", metric.name, metric.help),
        view,
        unit: unit(metric),
        limits: None,
        queries,
        size,
    };
    let labels = metric.labels.join(", ");
    let legend = legend(metric.labels);
    match (metric.kind, metric.unit) {
        (Kind::Counter, _) => {
            let rate = format!("sum by ({labels}) (rate({}[{WINDOW}]))", scope.all(metric));
            vec![panel(&title, View::Lines, [8, 8], vec![Query::new(rate, legend)])]
        }
        (Kind::Gauge, "info") => {
            let queries = vec![Query::new(scope.all(metric), "")];
            vec![panel(&title, View::Table, [24, 6], queries)]
        }
        (Kind::Gauge, _) => {
            let legend = format!("{{{{instance}}}} {legend}");
            let queries = vec![Query::new(scope.all(metric), legend.trim_end())];
            vec![panel(&title, View::Lines, [8, 8], queries)]
        }
        (Kind::Histogram, counted) => {
            let shares = if counted == "probability" {
                LOW_QUANTILES
            } else {
                QUANTILES
            };
            let buckets = scope.buckets(metric);
            let quantiles = shares.map(|share| {
                let legend = format!("{} {legend}", percentile(share));
                Query::new(quantile(share, &buckets, metric.labels, WINDOW), legend.trim_end())
            });
            let counts = format!("sum by (le) (increase({buckets}[{WINDOW}]))");
            vec![
                panel(&title, View::Lines, [12, 8], quantiles.into()),
                panel(
                    &format!("{title}, spread"),
                    View::Heatmap,
                    [12, 8],
                    vec![Query::new(counts, "{{le}}")],
                ),
            ]
        }
    }
}

/// The name of a metric in words.
fn title(metric: &Metric) -> String {
    let name = metric.name.trim_start_matches("emberline_");
    let name = name.trim_end_matches("_total").trim_end_matches("_seconds");
    let words = name.replace('_', " ");
    match words.split_at_checked(1) {
        Some((first, rest)) => format!("{}{rest}", first.to_uppercase()),
        None => words,
    }
}

fn legend(labels: &[&str]) -> String {
    let labels: Vec<String> = labels.iter().map(|label| format!("{{{{{label}}}}}")).collect();
    labels.join(" ")
}

/// 0.99 is p99.
fn percentile(share: f64) -> String {
    format!("p{}", (share * 100.0).round())
}

/// The rows with their panels, from left to right and from top to bottom.
fn laid_out<const N: usize>(rows: [(&str, Vec<Panel>); N]) -> Vec<Value> {
    let mut placed = Vec::new();
    let mut y = 0;
    for (title, panels) in rows {
        placed.push(json!({
            "id": placed.len() + 1,
            "type": "row",
            "title": title,
            "collapsed": false,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            "panels": [],
        }));
        y += 1;
        let (mut x, mut height) = (0, 0);
        for panel in panels {
            let [width, tall] = panel.size;
            if x + width > COLUMNS {
                (x, y, height) = (0, y + height, 0);
            }
            placed.push(panel.json(placed.len() + 1, x, y));
            x += width;
            height = height.max(tall);
        }
        y += height;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panels() -> Vec<Value> {
        dashboard("digits")["panels"].as_array().expect("panels").clone()
    }

    fn expressions(panel: &Value) -> Vec<&str> {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.filter_map(|target| target["expr"].as_str()).collect()
    }

    #[test]
    fn every_metric_of_the_table_has_a_panel_that_says_what_it_is() {
        for metric in TABLE {
            let panels = panels();
            let described: Vec<&Value> = panels
                .iter()
                .filter(|panel| {
                    let description = panel["description"].as_str().unwrap_or_default();
                    description == format!("`{}`: {}", metric.name, metric.help)
                })
                .collect();
            let expected = if metric.kind == Kind::Histogram { 2 } else { 1 };
            assert_eq!(described.len(), expected, "{}", metric.name);
            for panel in described {
                let asks = |series: &str| expressions(panel).iter().all(|expression| expression.contains(series));
                let suffix = if metric.kind == Kind::Histogram {
                    "_bucket{"
                } else {
                    "{"
                };
                assert!(asks(&format!("{}{suffix}", metric.name)), "{panel}");
            }
        }
    }

    #[test]
    fn panels_neither_overlap_nor_leave_the_grid() {
        let mut taken = std::collections::BTreeSet::new();
        let mut ids = std::collections::BTreeSet::new();
        for panel in panels() {
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            assert!(at("x") + at("w") <= u64::from(COLUMNS), "{panel}");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{panel}");
                }
            }
            assert!(ids.insert(panel["id"].as_u64()), "{panel}");
        }
    }

    #[test]
    fn units_are_grafanas() {
        let of = |name: &str| {
            let metric = TABLE.into_iter().find(|metric| metric.name == name).expect("a metric");
            unit(metric)
        };
        assert_eq!(of("emberline_requests_total"), "reqps");
        assert_eq!(of("emberline_predictions_total"), "suffix:predictions/s");
        assert_eq!(of("emberline_request_duration_seconds"), "s");
        assert_eq!(of("emberline_drift_missing_ratio"), "percentunit");
        assert_eq!(of("emberline_prediction_confidence"), "percentunit");
        assert_eq!(of("emberline_queue_depth"), "suffix:requests");
        assert_eq!(of("emberline_ready"), "bool_yes_no");
        assert_eq!(of("process_cpu_seconds_total"), "suffix:processors");
        assert_eq!(of("process_resident_memory_bytes"), "bytes");
    }

    #[test]
    fn only_the_servers_that_were_chosen_are_asked() {
        for panel in panels() {
            for expression in expressions(&panel) {
                let selectors = expression.matches('{').count();
                assert!(selectors > 0, "{expression}");
                assert_eq!(
                    expression.matches(r#"{instance=~"$instance""#).count(),
                    selectors,
                    "{expression}"
                );
            }
        }
    }
}
