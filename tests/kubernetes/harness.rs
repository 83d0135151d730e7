//! What the other tests stand on: namespaces that are theirs and admit what they say, and images that get there.

use std::process::Command;

use serde_json::{Value, json};

use crate::running::wait;
use crate::setup::{Namespace, cluster, kit, registry, succeeded};
use crate::tool::found;

/// A restricted namespace refuses a pod that asks for nothing, and an open one takes it.
#[test]
fn a_restricted_namespace_refuses_what_an_open_one_takes() {
    let Some(cluster) = cluster() else { return };
    let pod = ["run", "pod", "--image=emberline.test/none:1", "--dry-run=server"];

    let open = Namespace::new(&cluster, false);
    assert_eq!(open.json(&pod)["metadata"]["namespace"], open.name());

    let refused = Namespace::new(&cluster, true).kubectl(&pod);
    let reason = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(reason.contains("violates PodSecurity \"restricted"), "{reason}");
}

#[test]
fn a_namespace_goes_with_its_test() {
    let Some(cluster) = cluster() else { return };
    let namespace = Namespace::new(&cluster, true);
    let name = namespace.name().to_owned();
    assert_eq!(cluster.json(&["get", "namespace", &name])["status"]["phase"], "Active");
    drop(namespace);
    let left = cluster.kubectl(&["get", "namespace", &name, "-o=jsonpath={.status.phase}"]);
    assert!(!left.status.success() || left.stdout == b"Terminating");
}

/// A pod that keeps to `restricted`, and ends when it has printed nginx's version.
fn version(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "nginx",
                "image": image,
                "args": ["-v"],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

#[test]
fn an_image_gets_there_loaded_or_by_the_registry() {
    let (Some(cluster), true, true) = (
        cluster(),
        found("nginx", "apt-get install nginx-light"),
        found("skopeo", "apt-get install skopeo"),
    ) else {
        return;
    };
    let Some(registry) = registry() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("nginx.tar");
    let made = Command::new(kit("nginx-image")).arg(&archive).output();
    succeeded(made.expect("the kit runs"));

    cluster.load(&archive);
    let pushed = format!("{registry}/emberline-test/nginx:1");
    let push = Command::new("skopeo")
        .args(["copy", "--quiet", "--dest-tls-verify=false"])
        .arg(format!("docker-archive:{}", archive.display()))
        .arg(format!("docker://{pushed}"))
        .output();
    succeeded(push.expect("skopeo runs"));

    let namespace = Namespace::new(&cluster, true);
    for (name, image) in [("loaded", "emberline.test/nginx:1"), ("pulled", &pushed)] {
        namespace.create(&version(name, image));
        wait(&format!("the end of the pod `{name}`"), || {
            namespace.json(&["get", "pod", name])["status"]["phase"] == "Succeeded"
        });
        let said = succeeded(namespace.kubectl(&["logs", name])).stdout;
        assert!(said.starts_with(b"nginx version"), "{}", String::from_utf8_lossy(&said));
    }
}
