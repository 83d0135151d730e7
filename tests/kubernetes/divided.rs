//! A service behind a gateway that can be reached from this machine, and steady requests to it.
#![allow(clippy::print_stderr)] // what was counted is told

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::http::Connection;
use crate::fixture::region;
use crate::gateway::{IMAGE, nginx_image};
use crate::service::Service;
use crate::setup::{cluster, reached};
use crate::tool::Ran;

/// Clients that ask one after the other.
const CLIENTS: u32 = 4;

/// A service in front of which a gateway can be reached from this machine.
pub struct Divided {
    pub service: Service,
    pub address: SocketAddr,
}

impl Divided {
    /// The service of `bundle`, one replica, and its gateway.
    pub fn new(bundle: impl Fn(&Path) -> PathBuf) -> Option<(Self, String)> {
        let cluster = cluster()?;
        if !nginx_image(&cluster) {
            return None;
        }
        let service = Service::new(&cluster);
        service.configure(&format!(
            "name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{target: kubernetes, namespace: {}}}\n\
             gateway: {{image: '{IMAGE}', service_type: NodePort}}\n",
            service.namespace.name()
        ));
        let version = service.load(&bundle(service.path()));
        service.deploy(&version, &[]);
        service.ok(&["gateway", "up", "--allow-public"]);
        let gateway = service.namespace.json(&["get", "service", "digits-gateway"]);
        let port = gateway["spec"]["ports"][0]["nodePort"].as_u64().expect("a port") as u16;
        reached(port);
        let address = ([127, 0, 0, 1], port).into();
        Some((Self { service, address }, version))
    }

    pub fn load(&self, bundle: impl Fn(&Path) -> PathBuf) -> String {
        self.service.load(&bundle(self.service.path()))
    }

    pub fn canary(&self, version: &str, arguments: &[&str]) -> Ran {
        let command = [
            "deploy",
            "--allow-ungated",
            "-o",
            "json",
            "--bundle",
            version,
            "--canary",
        ];
        self.service.run(&[&command[..], arguments].concat())
    }

    /// What is there of a canary.
    pub fn left(&self) -> Vec<String> {
        let mut left = self.service.left();
        left.retain(|name| name.contains("canary") || name.contains("baseline"));
        left
    }

    pub fn gateway_pods(&self) -> Vec<Value> {
        let selector = "--selector=app.kubernetes.io/component=gateway";
        let pods = self.service.namespace.json(&["get", "pods", selector]);
        let pods = pods["items"].as_array().expect("pods");
        pods.iter().map(|pod| pod["metadata"]["name"].clone()).collect()
    }

    pub fn newest(&self) -> Value {
        let history = self.service.ok(&["history"]);
        history["revisions"]
            .as_array()
            .expect("revisions")
            .last()
            .expect("one")
            .clone()
    }
}

/// A prediction through the gateway over a connection of its own: the version that answers, or what came instead.
pub fn ask(address: SocketAddr, seed: u32) -> Result<String, String> {
    let image = json!(region::images(seed..seed + 1, 0.0).remove(0));
    let mut connection = Connection::open(address).map_err(|error| error.to_string())?;
    let answer = connection.request(
        "POST",
        "/digits/predict",
        "Connection: close\r\nContent-Type: application/json\r\n",
        image.to_string().as_bytes(),
    );
    let answer = answer.map_err(|error| error.to_string())?;
    match answer.status {
        200 => Ok(answer.json()["version"].as_str().unwrap_or_default().to_owned()),
        status => Err(format!("status {status}: {}", answer.text())),
    }
}

/// Steady requests, none of which is tried again.
pub struct Traffic {
    ends: Arc<AtomicBool>,
    told: Arc<Mutex<BTreeMap<String, u64>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub fn on(address: SocketAddr) -> Self {
        let (ends, told) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let start = Instant::now();
        let client = |number: u32| {
            let (ends, told): (_, Arc<Mutex<BTreeMap<String, u64>>>) = (Arc::clone(&ends), Arc::clone(&told));
            std::thread::spawn(move || {
                // Bounded, whatever becomes of the test.
                for round in 0..20_000 {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let what = ask(address, round * CLIENTS + number).unwrap_or_else(|error| {
                        eprintln!("after {:.2} s: {error}", start.elapsed().as_secs_f64());
                        format!("failed: {error}")
                    });
                    *told.lock().expect("no panic").entry(what).or_default() += 1;
                    std::thread::sleep(Duration::from_millis(15));
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { ends, told, clients }
    }

    /// Answers by version; no request has failed.
    #[track_caller]
    pub fn end(self) -> BTreeMap<String, u64> {
        self.ends.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("it ends");
        }
        let told = self.told.lock().expect("no panic").clone();
        eprintln!("requests by the version that answered: {told:?}");
        let failed = told.keys().find(|what| what.starts_with("failed"));
        assert_eq!(failed, None, "{told:?}");
        told
    }
}
