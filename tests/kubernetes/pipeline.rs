//! The pipeline of a project that is deployed to a cluster: the shell of its stages, as Jenkins runs it.

use std::process::Command;

use crate::service::{Service, with_runtime};
use crate::setup::{cluster, registry};
use crate::tool::ran;

/// The scripts of a Jenkinsfile's stages.
fn scripts(file: &str) -> Vec<String> {
    let parts: Vec<&str> = file.split("'''").collect();
    parts.iter().skip(1).step_by(2).map(ToString::to_string).collect()
}

#[test]
fn the_stages_train_evaluate_push_and_deploy_by_digest() {
    let (Some(cluster), Some(registry)) = (cluster(), registry()) else {
        return;
    };
    let service = Service::new(&cluster);
    let repository = format!("{registry}/{}/digits", service.namespace.name());
    let configure = |accuracy| {
        service.configure(&format!(
            "name: digits\ndata: {{source: synthetic-digits, count: 2000, test_count: 500}}\ntrain: {{epochs: 3}}\n\
             evaluate: {{gate: {{accuracy: {accuracy}}}}}\npackage: {{repository: '{repository}'}}\n\
             deploy: {{target: kubernetes, namespace: {}, replicas: 2}}\n",
            service.namespace.name()
        ));
    };
    configure(0.5);
    let file = service.run(&["ci", "init", "jenkins", "--stdout"]).success().stdout;
    let gitlab = service.run(&["ci", "init", "gitlab", "--stdout"]).success().stdout;
    assert!(
        gitlab.contains("--push") && gitlab.contains("EMBERLINE_IMAGE"),
        "{gitlab}"
    );
    let scripts = scripts(&file);
    assert_eq!(scripts.len(), 4, "{file}");
    let stage = |number: usize| {
        let mut shell = Command::new("sh");
        shell
            .args(["-xe", "-c", &scripts[number]])
            .current_dir(service.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("EMBERLINE_BIN", env!("CARGO_BIN_EXE_emberline"))
            .env("KUBECONFIG", cluster.kubeconfig());
        with_runtime(&mut shell);
        ran(&mut shell)
    };
    for number in 0..4 {
        stage(number).success();
    }
    let status = service.ok(&["status"]);
    let image = status["image"].as_str().expect("an image");
    assert!(image.starts_with(&repository) && image.contains("@sha256:"), "{image}");
    assert_eq!(status["replicas"]["ready"], 2);

    configure(0.999);
    stage(1).code(3);
}
