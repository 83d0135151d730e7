//! What went wrong, as an error: what it means for the service above, its cause and the log's end below.

use super::{DeployError, Trouble};
use crate::problem::Problem;

/// An end with what is known of its cause below it.
pub fn explained(trouble: Option<&Trouble>, end: impl FnOnce(String) -> DeployError) -> anyhow::Error {
    let Some(trouble) = trouble else {
        return end(String::new()).into();
    };
    let end = end(trouble.reason.clone());
    let below = match (&trouble.log[..], &trouble.hint) {
        ([], None) => return end.into(),
        // The reason stands in the error above, and is printed once.
        ([], Some(hint)) => Problem::new(trouble.reason.clone()).hint(hint.clone()),
        (log, hint) => {
            let problem = Problem::new(quoted("replica", log));
            problem.hint(hint.clone().unwrap_or_else(|| "`emberline logs` shows more".into()))
        }
    };
    anyhow::Error::from(below).context(end)
}

/// The last lines of a log, as part of an error.
pub fn quoted(whose: &str, lines: &[String]) -> String {
    let mut text = format!("the {whose}'s log ends with:");
    for line in lines {
        text.push_str("\n    ");
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_carries_its_cause_its_log_and_its_hint() {
        let trouble = Trouble {
            revision: 2,
            at: 0,
            reason: "replica 3 ended with exit code 1 before it was ready".into(),
            hint: None,
            log: vec!["error: golden case 0 is off".into()],
        };
        let error = explained(Some(&trouble), DeployError::RolledBack);
        assert_eq!(error.downcast_ref::<DeployError>().map(DeployError::exit_code), Some(4));
        let text = format!("{error:#}");
        assert!(
            text.contains("replica 3 ended") && text.contains("golden case 0"),
            "{text}"
        );
    }
}
