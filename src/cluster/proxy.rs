//! Pods and Services asked by way of the cluster's interface: from wherever the cluster answers, with its credentials.

use anyhow::Result;
use http::StatusCode;
use http::request::Builder;
use kube::client::Body;
use kube::core::Status;

use super::Cluster;

impl Cluster {
    /// Posts JSON to a port of a Service of the namespace, with a key if one is needed, and gives the answer's body; none when
    /// the service wants a key, and this is not one that it lets in.
    ///
    /// # Errors
    ///
    /// When nothing behind the Service answers, or the answer is no success.
    pub fn post(&self, service: &str, port: &str, path: &str, body: &str, key: Option<&str>) -> Result<Option<String>> {
        let namespace = self.namespace();
        let uri = format!("/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy{path}");
        let request = http::Request::post(uri).header("content-type", "application/json");
        self.through(&format!("ask Service `{service}`"), request, body, key)
    }

    /// Asks a pod of the namespace likewise.
    ///
    /// # Errors
    ///
    /// When the pod does not answer, or the answer is no success.
    pub fn ask_pod(&self, pod: &str, port: u16, path: &str, key: Option<&str>) -> Result<Option<String>> {
        let namespace = self.namespace();
        let request = http::Request::get(format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"));
        self.through(&format!("ask pod `{pod}`"), request, "", key)
    }

    fn through(&self, doing: &str, mut request: Builder, body: &str, key: Option<&str>) -> Result<Option<String>> {
        if let Some(key) = key {
            // The cluster takes what stands in `authorization` for itself.
            request = request.header("x-api-key", key);
        }
        let request = request.body(Body::from(body.as_bytes().to_vec()))?;
        let client = self.client().clone();
        self.ask(doing, async move {
            // Nobody reads the answer before us: what a pod says against a request looks like an empty refusal of the cluster.
            let answer = client.send(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect_bytes().await?;
            told(status, String::from_utf8_lossy(&body).into_owned())
        })
    }
}

/// What an answer says, the cluster's own or that of the one that was asked.
fn told(status: StatusCode, text: String) -> kube::Result<Option<String>> {
    if status.is_success() {
        return Ok(Some(text));
    }
    let cluster = serde_json::from_str::<Status>(&text)
        .ok()
        .filter(|refused| refused.code != 0);
    let refused = match cluster {
        Some(refused) => refused,
        None if status == StatusCode::UNAUTHORIZED => return Ok(None),
        None => Status::failure(text.trim(), "the one that was asked says so").with_code(status.as_u16()),
    };
    Err(kube::Error::Api(refused.boxed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, text: &str) -> (u16, String) {
        let status = StatusCode::from_u16(status).expect("a status");
        match told(status, text.to_owned()) {
            Err(kube::Error::Api(refused)) => (refused.code, refused.message.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_pod_says_is_told_apart_from_what_the_cluster_does() {
        assert_eq!(
            refused(503, "{\"error\":\"not ready\"}\n"),
            (503, "{\"error\":\"not ready\"}".to_owned())
        );
        let cluster = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized",
            "reason":"Unauthorized","code":401}"#;
        assert_eq!(refused(401, cluster), (401, "Unauthorized".to_owned()));
        let unauthorized = told(StatusCode::UNAUTHORIZED, "{\"error\":\"no key\"}".to_owned());
        assert_eq!(unauthorized.expect("a key is asked for"), None);
        let answer = told(StatusCode::OK, "1".to_owned());
        assert_eq!(answer.expect("a success").as_deref(), Some("1"));
    }
}
