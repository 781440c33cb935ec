//! Joins the answers of several nodes into one output and one exit status.

use std::process::{ExitStatus, Output};

use serde_json::{Value, json};

/// The answer of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    node: String,
    status: u8,
    output: String,
    /// The error messages of the verb, or the reason why there is no answer.
    complaint: String,
}

impl Answer {
    /// Made from the output of a kubectl that ran a verb in a pod.
    pub(super) fn of(node: &str, output: &Output) -> Self {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let is_of_verb = |line: &&str| !line.starts_with(ENDED);
        // kubectl says so when the verb has run and failed; else it did not get that far.
        let has_run = output.status.success() || complaint.contains(ENDED);
        Self {
            node: node.to_owned(),
            status: if has_run {
                exit_status(output.status)
            } else {
                NOT_REACHED
            },
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            complaint: complaint
                .lines()
                .filter(is_of_verb)
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }

    /// The answer in place of one that a node did not give, with the reason.
    pub(super) fn away(node: &str, reason: &str) -> Self {
        Self {
            node: node.to_owned(),
            status: NOT_REACHED,
            output: String::new(),
            complaint: reason.to_owned(),
        }
    }
}

/// All answers under the names of their nodes.
pub(super) fn text(answers: &[Answer]) -> String {
    let mut text = String::new();
    for answer in answers {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str("== ");
        text.push_str(&answer.node);
        text.push('\n');
        if answer.status == NOT_REACHED {
            text.push_str("not reached: ");
        }
        for part in [&answer.complaint, &answer.output] {
            text.push_str(part);
            if !part.is_empty() && !part.ends_with('\n') {
                text.push('\n');
            }
        }
    }
    text
}

/// All answers as one list of objects.
pub(super) fn json(answers: &[Answer]) -> String {
    let answers = answers.iter().map(|answer| {
        let output: Value = serde_json::from_str(&answer.output).unwrap_or_default();
        let complaint = Some(&answer.complaint).filter(|complaint| !complaint.is_empty());
        json!({
            "node": answer.node,
            "status": answer.status,
            "output": output,
            "error": complaint,
        })
    });
    let mut text = answers.collect::<Value>().to_string();
    text.push('\n');
    text
}

/// A line of a node, with its name.
pub(super) fn line(node: &str, line: &str, is_json: bool) -> String {
    if is_json && let Ok(Value::Object(mut object)) = serde_json::from_str(line) {
        object.insert("node".to_owned(), node.into());
        return format!("{}\n", Value::Object(object));
    }
    format!("{node} {line}\n")
}

/// The worst exit status.
pub(super) fn worst(answers: &[Answer]) -> u8 {
    answers
        .iter()
        .map(|answer| answer.status)
        .max()
        .unwrap_or(0)
}

/// The exit status of a verb, as kubectl hands it on.
pub(super) fn exit_status(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(NOT_REACHED)
}

/// The exit status where a daemon is not reached.
pub(super) const NOT_REACHED: u8 = 3;
/// kubectl's last line about a command that ran and failed.
const ENDED: &str = "command terminated with exit code";

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn answer(node: &str, code: i32, output: &str, complaint: &str) -> Answer {
        let output = Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: output.into(),
            stderr: complaint.into(),
        };
        Answer::of(node, &output)
    }

    #[test]
    fn status_of_a_verb_that_ran_is_kept_and_of_one_that_did_not_is_3() {
        let ran = answer(
            "a",
            1,
            "bad",
            "sluice: no\ncommand terminated with exit code 1\n",
        );
        assert_eq!((ran.status, ran.complaint.as_str()), (1, "sluice: no"));
        let away = answer("b", 1, "", "error: unable to upgrade connection\n");
        assert_eq!(away.status, NOT_REACHED);
        assert_eq!(worst(&[answer("c", 0, "", ""), ran, away]), NOT_REACHED);
        assert_eq!(worst(&[]), 0);
    }

    #[test]
    fn answers_stand_under_their_nodes() {
        let answers = [answer("a", 0, "fine\n", ""), Answer::away("b", "gone")];
        assert_eq!(text(&answers), "== a\nfine\n\n== b\nnot reached: gone\n");
    }

    #[test]
    fn json_of_all_nodes_is_one_list() {
        let answers = [answer("a", 0, r#"{"x": 1}"#, ""), Answer::away("b", "gone")];
        let read: Value = serde_json::from_str(&json(&answers)).unwrap();
        assert_eq!(read[0]["output"]["x"], 1);
        assert_eq!(read[1]["error"], "gone");
        assert_eq!(read[1]["status"], 3);
    }

    #[test]
    fn lines_carry_the_name_of_their_node() {
        assert_eq!(line("a", "GET /", false), "a GET /\n");
        assert_eq!(line("a", r#"{"x":1}"#, true), "{\"node\":\"a\",\"x\":1}\n");
        assert_eq!(line("a", "lost 3", true), "a lost 3\n");
    }
}
