//! Who says no to an object that the account itself may make: quotas, limits, standards, policies and webhooks, told by
//! their own words.

/// A no, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What to do about it.
    pub hint: String,
    /// Whether it may be over without anybody doing anything.
    pub outlook: Outlook,
}

/// Whether waiting is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It is not.
    Hopeless,
    /// It is where somebody makes room: a pod that goes, or another node.
    Room,
    /// It may be.
    Open,
}

/// Such a no in a message of the cluster; none when the message is about something else.
pub fn denial(message: &str, namespace: &str) -> Option<Denial> {
    let hopeless = |hint: String| {
        Some(Denial {
            hint,
            outlook: Outlook::Hopeless,
        })
    };
    if message.contains("exceeded quota") {
        return Some(Denial {
            hint: format!(
                "ask for less by `deploy.memory`, `deploy.cpu` or `--replicas` (`tune.memory` and `tune.cpu` for trials), or have the \
                 quota raised; `kubectl describe quota -n {namespace}` shows what is used"
            ),
            outlook: Outlook::Room,
        });
    }
    if let Some(policy) = named(message, "ValidatingAdmissionPolicy '", '\'') {
        return hopeless(format!(
            "the cluster's policy `{policy}` forbids it, whatever this account may do; `kubectl get \
             validatingadmissionpolicy {policy} -o yaml` shows what it asks for"
        ));
    }
    if let Some(webhook) = named(message, "failed calling webhook \"", '"') {
        return Some(Denial {
            hint: format!(
                "the cluster asks the webhook `{webhook}` first, which does not answer; whoever runs it can help"
            ),
            outlook: Outlook::Open,
        });
    }
    if let Some(webhook) = named(message, "admission webhook \"", '"') {
        return hopeless(format!(
            "the cluster's webhook `{webhook}` forbids it, whatever this account may do; whoever runs it knows what it asks \
             for"
        ));
    }
    if message.contains("violates PodSecurity") {
        return hopeless(
            "what emberline makes keeps to the standard `restricted`: something else adds to its pods, such as a webhook that \
             puts a sidecar into them"
                .to_owned(),
        );
    }
    // The words of a LimitRange, which does not name itself.
    let limits = [
        "usage per Container is",
        "usage per Pod is",
        "limit to request ratio per",
    ];
    if limits.iter().any(|words| message.contains(words)) {
        return hopeless(format!(
            "`deploy.memory` and `deploy.cpu` say what a replica asks for; `kubectl describe limitrange -n {namespace}` shows \
             what it may"
        ));
    }
    // An account that was made just now is not known everywhere at once.
    message.contains("error looking up service account").then(|| Denial {
        hint: "the next `emberline deploy` makes the account anew".to_owned(),
        outlook: Outlook::Open,
    })
}

/// What follows `before` in a text, up to `end`.
fn named<'a>(text: &'a str, before: &str, end: char) -> Option<&'a str> {
    let (_, after) = text.split_once(before)?;
    after.split(end).next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_no_is_named() {
        for (message, hint, outlook) in [
            (
                "pods \"a\" is forbidden: exceeded quota: small, requested: limits.memory=256Mi",
                "`kubectl describe quota -n models`",
                Outlook::Room,
            ),
            (
                "pods \"a\" is forbidden: ValidatingAdmissionPolicy 'no-friday' with binding 'b' denied request: go home",
                "policy `no-friday` forbids it",
                Outlook::Hopeless,
            ),
            (
                "admission webhook \"vet.example.com\" denied the request: no",
                "webhook `vet.example.com` forbids it",
                Outlook::Hopeless,
            ),
            (
                "Internal error occurred: failed calling webhook \"vet.example.com\": connection refused",
                "does not answer",
                Outlook::Open,
            ),
            (
                "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\": hostPort",
                "standard `restricted`",
                Outlook::Hopeless,
            ),
            (
                "pods \"a\" is forbidden: maximum memory usage per Container is 16Mi, but limit is 256Mi",
                "describe limitrange -n models",
                Outlook::Hopeless,
            ),
            (
                "pods \"a\" is forbidden: error looking up service account models/digits: not found",
                "makes the account anew",
                Outlook::Open,
            ),
        ] {
            let denial = denial(message, "models").expect(message);
            assert!(denial.hint.contains(hint), "{}", denial.hint);
            assert_eq!(denial.outlook, outlook, "{message}");
        }
        assert_eq!(
            denial("pods is forbidden: User \"nobody\" cannot list resource", "models"),
            None
        );
    }
}
