//! The part of docs/guide/deploying.md about Kubernetes: its commands, and the rights that it names.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::port;
use crate::gateway::{IMAGE, nginx_image};
use crate::running::wait;
use crate::service::{Service, with_runtime};
use crate::setup::{cluster, extra_kinds, registry, succeeded};
use crate::tool::ran;

fn part() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/guide/deploying.md")).expect("the guide");
    let (_, part) = guide.split_once("\n## Kubernetes\n").expect("the part");
    part.split("\n## ").next().expect("its end").to_owned()
}

/// The blocks of YAML.
fn yaml(part: &str) -> Vec<&str> {
    part.split("```yaml\n")
        .skip(1)
        .map(|block| block.split("```").next().expect("its end"))
        .collect()
}

#[test]
fn every_command_does_what_the_guide_says() {
    let (Some(cluster), Some(registry)) = (cluster(), registry()) else {
        return;
    };
    if !nginx_image(&cluster) || !extra_kinds() {
        return;
    }
    let service = Service::new(&cluster);
    let namespace = service.namespace.name();
    let here = |text: &str| {
        text.replace("registry.example.com/team", &format!("{registry}/{namespace}"))
            .replace("models\n", &format!("{namespace}\n"))
            .replace("-n models ", &format!("-n {namespace} "))
    };
    let part = part();
    // The namespace is there, and nobody's port 5000 is ours.
    let free = port::free();
    let script: Vec<String> = part
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("kubectl create namespace") && !line.starts_with("kubectl label namespace"))
        .map(|line| {
            here(line)
                .replace("localhost:5000", &format!("127.0.0.1:{free}"))
                .replace(" 5000:", &format!(" {free}:"))
        })
        .collect();
    for needed in [
        "deploy --canary",
        "package --push",
        "deploy",
        "scale --replicas",
        "scale --autoscale",
        "scale --slo",
        "plan --rps",
        "rollback",
        "ship",
        "gateway up",
        "deploy -d public",
    ] {
        let wanted = format!("emberline {needed}");
        assert!(
            script.iter().any(|line| line.starts_with(&wanted)),
            "the guide has no `{wanted}`"
        );
    }
    // A project like that of the quickstart, which takes less time to train.
    let project = service.path().join("digits");
    succeeded(service.command(&["init", "digits"]).output().expect("the binary runs"));
    let config = project.join("emberline.yaml");
    let mut text = fs::read_to_string(&config).expect("a project");
    text = text.replace(
        "source: synthetic-digits\n",
        "source: synthetic-digits\n  count: 4000\n",
    );
    let gate = text.find("  gate:").expect("a gate");
    text.truncate(gate);
    text.push_str("  gate: {accuracy: 0.5}\n");
    // Without the engine, in which the images would stay.
    text.push_str(&here(yaml(&part)[0]).replace("package:\n", "package:\n  builder: oci\n"));
    text += &["gateway: {image: '", IMAGE, "'}\n"].concat();
    fs::write(&config, text).expect("written");
    let overlay = yaml(&part).into_iter().find(|block| block.contains("ingress:"));
    fs::write(project.join("emberline.public.yaml"), overlay.expect("an overlay")).expect("written");

    let bin = Path::new(env!("CARGO_BIN_EXE_emberline")).parent().expect("a folder");
    let mut bash = Command::new("bash");
    bash.args(["-euxo", "pipefail", "-c"])
        .arg(format!("emberline train\nemberline evaluate\n{}", script.join("\n")))
        .current_dir(&project)
        .env_clear()
        .env(
            "PATH",
            format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()),
        )
        .env("KUBECONFIG", cluster.kubeconfig());
    with_runtime(&mut bash);
    let output = bash.output().expect("bash runs");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(
        stdout.contains("{\"predictions\":[["),
        "curl got no prediction:\n{stdout}"
    );
    assert_eq!(service.left(), Vec::<String>::new());
}

#[test]
fn the_rights_that_the_guide_names_are_enough() {
    let Some(cluster) = cluster() else { return };
    if !extra_kinds() {
        return;
    }
    let service = Service::new(&cluster);
    let namespace = service.namespace.name();
    let part = part();
    let role = yaml(&part)
        .into_iter()
        .find(|block| block.contains("kind: Role"))
        .expect("a role")
        .replace("namespace: models", &format!("namespace: {namespace}"));
    // Whoever asks for no route needs no right to any.
    let extras = ["ingresses", "httproutes", "servicemonitors"];
    let plain = role
        .lines()
        .filter(|line| !extras.iter().any(|kind| line.contains(kind)));
    let plain = plain.collect::<Vec<_>>().join("\n");
    let file = service.path().join("role.yaml");
    fs::write(&file, plain).expect("written");
    let kubectl = |arguments: &[&str]| succeeded(service.namespace.kubectl(arguments)).stdout;
    kubectl(&["create", "-f", file.to_str().expect("a path")]);
    kubectl(&["create", "serviceaccount", "pipeline"]);
    let token = String::from_utf8(kubectl(&["create", "token", "pipeline"])).expect("a token");
    let kubeconfig = service.account("pipeline", token.trim());
    let rights = || {
        let mut command = service.command(&["doctor", "-o", "json"]);
        let report = ran(command.env("KUBECONFIG", &kubeconfig)).json();
        let mut checks = report["checks"].as_array().expect("checks").iter();
        let rights = checks.find(|check| check["name"] == "rights").expect("rights");
        (rights["verdict"].clone(), rights["message"].to_string())
    };
    let (verdict, message) = rights();
    assert_eq!(verdict, "failed");
    assert!(message.contains("`patch deployments/scale`"), "{message}");
    let account = format!("--serviceaccount={namespace}:pipeline");
    kubectl(&["create", "rolebinding", "pipeline", "--role=emberline", &account]);
    assert_eq!(rights().0, "ok");

    let (first, second) = (service.bundle(), service.bundle());
    let run = |arguments: &[&str]| {
        let mut command = service.command(arguments);
        command.env("KUBECONFIG", &kubeconfig).args(["-o", "json"]);
        ran(&mut command).success().json()
    };
    let deploy = |version: &str| run(&["deploy", "--allow-ungated", "--bundle", version]);
    deploy(&first);
    let rolled = deploy(&second);
    assert_eq!(
        (&rolled["version"], &rolled["proof"]["failed"]),
        (&Value::from(second.as_str()), &Value::from(0))
    );
    assert_eq!(run(&["rollback"])["version"], *first);
    if nginx_image(&cluster) {
        let config = service.path().join("emberline.yaml");
        let text = fs::read_to_string(&config).expect("a project");
        fs::write(&config, format!("{text}gateway: {{image: '{IMAGE}', replicas: 1}}\n")).expect("written");
        run(&["gateway", "up"]);
        let mut canary = service.command(&["deploy", "--allow-ungated", "--bundle", &second, "--canary", "10%"]);
        canary.args(["--canary-for", "1s"]).env("KUBECONFIG", &kubeconfig);
        ran(&mut canary).code(3);
        run(&["deploy", "--abort"]);
        run(&["gateway", "down"]);
    }
    run(&["scale", "--replicas", "2"]);
    run(&["scale", "--autoscale", "1..3", "--timeout", "120s"]);
    // Nobody has to be allowed to look at nodes for it.
    run(&["scale", "--slo", "p99=500ms", "--rps", "10", "--measure-only"]);
    run(&["status"]);
    run(&["history"]);
    assert_ne!(run(&["logs"])["lines"][0], Value::Null);

    fs::write(&file, role).expect("written");
    let routes = ", clients: cluster, ingress: {hosts: [digits.example.com]}, http_route: {gateway: public}, service_monitor: {}";
    service.configure_deploy(routes);
    let (verdict, message) = rights();
    assert_eq!(verdict, "failed");
    assert!(message.contains("`create servicemonitors`"), "{message}");
    kubectl(&["replace", "-f", file.to_str().expect("a path")]);
    assert_eq!(rights().0, "ok");
    deploy(&first);
    run(&["delete", "--yes"]);
    wait("all of it goes", || service.left().is_empty());
}
