//! Panels of a Grafana dashboard, as JSON. Where they stand, and what they ask, is the dashboard's.

use serde_json::{Value, json};

use crate::serve::metrics::table::{Kind, Metric};

/// One query of a panel.
#[derive(Clone, Debug)]
pub struct Query {
    /// `PromQL`.
    pub expression: String,
    /// What its series are called, with their labels in double braces.
    pub legend: String,
}

impl Query {
    pub fn new(expression: impl Into<String>, legend: impl Into<String>) -> Self {
        Self {
            expression: expression.into(),
            legend: legend.into(),
        }
    }
}

/// How a panel shows what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Lines over time.
    Lines,
    /// Areas over time, one on the other.
    Stacked,
    /// The last value, large.
    Number,
    /// The buckets of a histogram over time.
    Heatmap,
    /// The labels of series, as they are now.
    Table,
}

/// One panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Its title.
    pub title: String,
    /// What it tells, for who asks.
    pub description: String,
    /// How it shows that.
    pub view: View,
    /// Grafana's name of the unit.
    pub unit: String,
    /// Values from which on it is orange, and red.
    pub limits: Option<[f64; 2]>,
    /// What it asks.
    pub queries: Vec<Query>,
    /// Width and height, in Grafana's grid of 24 columns.
    pub size: [u32; 2],
}

/// The data source that a person chooses at the top of the dashboard.
pub fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Grafana's name of a metric's unit; that of its rate, for a counter.
pub fn unit(metric: &Metric) -> String {
    match (metric.kind, metric.unit) {
        (Kind::Counter, "requests") => "reqps".to_owned(),
        // Seconds of processor time in a second.
        (Kind::Counter, "seconds") => "suffix:processors".to_owned(),
        (Kind::Counter, counted) => format!("suffix:{counted}/s"),
        (_, "seconds") => "s".to_owned(),
        (_, "bytes") => "bytes".to_owned(),
        (_, "ratio" | "probability") => "percentunit".to_owned(),
        (_, "boolean") => "bool_yes_no".to_owned(),
        (_, "index" | "info") => "none".to_owned(),
        (_, counted) => format!("suffix:{counted}"),
    }
}

impl Panel {
    /// As Grafana reads it: with a number of its own, at a column and a row.
    pub fn json(&self, id: usize, x: u32, y: u32) -> Value {
        let [width, height] = self.size;
        json!({
            "id": id,
            "type": self.view.plugin(),
            "title": self.title,
            "description": self.description,
            "datasource": source(),
            "gridPos": {"x": x, "y": y, "w": width, "h": height},
            "targets": self.targets(),
            "fieldConfig": {"defaults": self.field(), "overrides": []},
            "options": self.view.options(&self.unit),
            "transformations": self.view.transformations(),
        })
    }

    fn targets(&self) -> Vec<Value> {
        let format = match self.view {
            View::Heatmap => "heatmap",
            View::Table => "table",
            _ => "time_series",
        };
        // A table is about now; everything else is about a stretch of time.
        let instant = self.view == View::Table;
        let letters = (b'A'..=b'Z').map(|letter| char::from(letter).to_string());
        self.queries
            .iter()
            .zip(letters)
            .map(|(query, letter)| {
                json!({
                    "refId": letter,
                    "datasource": source(),
                    "editorMode": "code",
                    "expr": query.expression,
                    "legendFormat": query.legend,
                    "format": format,
                    "instant": instant,
                    "range": !instant,
                })
            })
            .collect()
    }

    fn field(&self) -> Value {
        let mut field = json!({"unit": self.unit});
        if let Some([orange, red]) = self.limits {
            field["thresholds"] = json!({
                "mode": "absolute",
                "steps": [
                    {"color": "green", "value": null},
                    {"color": "orange", "value": orange},
                    {"color": "red", "value": red},
                ],
            });
        }
        match self.view {
            View::Lines | View::Stacked => {
                let stacked = self.view == View::Stacked;
                field["color"] = json!({"mode": "palette-classic"});
                // Nothing counted here goes below 0.
                field["min"] = json!(0);
                field["custom"] = json!({
                    "drawStyle": "line",
                    "lineWidth": 1,
                    "fillOpacity": if stacked { 50 } else { 8 },
                    "showPoints": "never",
                    "spanNulls": false,
                    "stacking": {"group": "A", "mode": if stacked { "normal" } else { "none" }},
                    "thresholdsStyle": {"mode": if self.limits.is_some() { "line" } else { "off" }},
                });
            }
            View::Number => field["color"] = json!({"mode": "thresholds"}),
            View::Heatmap | View::Table => {}
        }
        field
    }
}

impl View {
    fn plugin(self) -> &'static str {
        match self {
            Self::Lines | Self::Stacked => "timeseries",
            Self::Number => "stat",
            Self::Heatmap => "heatmap",
            Self::Table => "table",
        }
    }

    fn options(self, unit: &str) -> Value {
        match self {
            Self::Lines | Self::Stacked => json!({
                "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Self::Number => json!({
                "colorMode": "value",
                "graphMode": "area",
                "justifyMode": "auto",
                "orientation": "auto",
                "textMode": "auto",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            }),
            Self::Heatmap => json!({
                "calculate": false,
                "cellGap": 1,
                "color": {"mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "steps": 64, "reverse": false},
                // A bucket that nothing fell into is left blank.
                "filterValues": {"le": 1e-9},
                "legend": {"show": true},
                "rowsFrame": {"layout": "auto"},
                "showValue": "never",
                "tooltip": {"mode": "single", "yHistogram": false},
                "yAxis": {"axisPlacement": "left", "reverse": false, "unit": unit},
            }),
            Self::Table => json!({"cellHeight": "sm", "showHeader": true}),
        }
    }

    fn transformations(self) -> Value {
        match self {
            // What says the same in each line, or nothing.
            Self::Table => json!([{
                "id": "organize",
                "options": {"excludeByName": {"Time": true, "Value": true, "__name__": true}},
            }]),
            _ => json!([]),
        }
    }
}
