//! Webhooks that a cluster asks before it takes a pod, run by this machine for one namespace.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::running::wait;
use crate::service::Service;
use crate::setup::succeeded;
use crate::tool::{certificate, found};

/// What a webhook is asked for: whether a pod may be, or what is to be added to it.
#[derive(Clone, Copy)]
pub enum Webhook {
    Forbids,
    AddsSidecar,
}

/// A webhook that the cluster asks about the pods of one version; it goes with the test, however that ends.
pub struct Asked<'a> {
    service: &'a Service,
    kind: &'static str,
    pub name: String,
    server: Child,
}

impl Webhook {
    /// Has the cluster ask it from now on. None where this machine has not what it is made of.
    pub fn asked<'a>(self, service: &'a Service, version: &str) -> Option<Asked<'a>> {
        if !certificate::can_be_made() || !found("python3", "apt-get install python3") {
            return None;
        }
        let (does, kind) = match self {
            Self::Forbids => ("forbid", "ValidatingWebhookConfiguration"),
            Self::AddsSidecar => ("sidecar", "MutatingWebhookConfiguration"),
        };
        let [certificate, key] = certificate::made(service.path(), "webhook");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/webhook.py");
        let mut server = Command::new("python3")
            .arg(script)
            .arg(does)
            .args([&certificate, &key])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut port = String::new();
        let stdout = server.stdout.take().expect("stdout");
        BufReader::new(stdout).read_line(&mut port).expect("its port");
        let name = format!("{does}.{}.test", service.namespace.name());
        let asked = Asked {
            service,
            kind,
            name,
            server,
        };
        asked.register(port.trim(), version, &certificate);
        Some(asked)
    }
}

impl Asked<'_> {
    fn register(&self, port: &str, version: &str, certificate: &Path) {
        let mut openssl = Command::new("openssl");
        openssl.args(["base64", "-A", "-in"]).arg(certificate);
        let authority = succeeded(openssl.output().expect("openssl runs")).stdout;
        let authority = String::from_utf8(authority).expect("base64");
        self.service.namespace.create(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": self.kind,
            "metadata": { "name": self.name },
            "webhooks": [{
                "name": self.name,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 5,
                "clientConfig": { "url": format!("https://127.0.0.1:{port}/"), "caBundle": authority },
                "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
                "namespaceSelector": {
                    "matchLabels": { "kubernetes.io/metadata.name": self.service.namespace.name() },
                },
                "objectSelector": { "matchLabels": { "app.kubernetes.io/version": version } },
            }],
        }));
    }

    /// Waits until the cluster asks: until a pod that it would take otherwise is refused.
    pub fn wait(&self, pod: &Value) {
        let file = self.service.path().join("asked.json");
        fs::write(&file, pod.to_string()).expect("written");
        let file = file.to_str().expect("a path");
        wait("the webhook is asked", || {
            let asked = self
                .service
                .namespace
                .kubectl(&["create", "--dry-run=server", "-f", file]);
            !asked.status.success()
        });
    }

    /// Ends it, and leaves the cluster asking.
    pub fn fall_silent(&mut self) {
        self.server.kill().expect("killed");
        self.server.wait().expect("its end");
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.service.cluster.kubectl(&["delete", self.kind, &self.name]);
        // It may have ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
