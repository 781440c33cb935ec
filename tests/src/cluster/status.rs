//! What a kubelet writes into a pod's status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// The pod as its kubelet sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// When its kubelet first saw it.
    pub(super) start: Timestamp,
    /// Addresses of its node.
    pub(super) hosts: Vec<String>,
    /// Addresses of its own.
    pub(super) addresses: Vec<String>,
    /// Its containers.
    pub(super) containers: Vec<ContainerReport>,
    /// Whether containers are started again after their end.
    pub(super) is_restarted: bool,
}

/// A container as its kubelet sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerReport {
    /// Its name.
    pub(super) name: String,
    /// Its image.
    pub(super) image: String,
    /// What it does.
    pub(super) state: State,
    /// Whether its probe is content.
    pub(super) is_ready: bool,
    /// How often it was started again.
    pub(super) restarts: u32,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is not there yet, for a reason and with a message.
    Waiting(&'static str, String),
    /// It runs since then.
    Running(Timestamp),
    /// It has ended with that exit code.
    Ended(i32),
}

impl Report {
    /// Whether traffic may come.
    pub(super) fn is_ready(&self) -> bool {
        self.containers
            .iter()
            .all(|container| container.is_ready && matches!(container.state, State::Running(_)))
    }

    /// Where the pod is in its life.
    pub(super) fn phase(&self) -> &'static str {
        let states = || self.containers.iter().map(|container| &container.state);
        if states().any(|state| matches!(state, State::Running(_))) {
            return "Running";
        }
        let is_over = !self.is_restarted && states().all(|state| matches!(state, State::Ended(_)));
        if !is_over {
            let has_run = self
                .containers
                .iter()
                .any(|container| container.restarts > 0);
            let has_ended = states().any(|state| matches!(state, State::Ended(_)));
            return if has_run || has_ended {
                "Running"
            } else {
                "Pending"
            };
        }
        if states().all(|state| *state == State::Ended(0)) {
            "Succeeded"
        } else {
            "Failed"
        }
    }

    /// A strategic merge patch of the pod; `since` is when readiness last changed.
    pub(super) fn patch(&self, since: Timestamp) -> Value {
        let ip = |address: &String| json!({ "ip": address });
        let condition = |kind: &str, is_so: bool| {
            let status = if is_so { "True" } else { "False" };
            json!({"type": kind, "status": status, "lastTransitionTime": Time(since)})
        };
        let is_ready = self.is_ready();
        json!({"status": {
            "phase": self.phase(),
            "hostIP": self.hosts.first(),
            "hostIPs": self.hosts.iter().map(ip).collect::<Vec<_>>(),
            "podIP": self.addresses.first(),
            "podIPs": self.addresses.iter().map(ip).collect::<Vec<_>>(),
            "startTime": Time(self.start),
            "conditions": [
                condition("Initialized", true),
                condition("ContainersReady", is_ready),
                condition("Ready", is_ready),
            ],
            "containerStatuses": self.containers.iter().map(ContainerReport::status).collect::<Vec<_>>(),
        }})
    }
}

impl ContainerReport {
    fn status(&self) -> Value {
        let state = match &self.state {
            State::Waiting(reason, message) => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            State::Running(since) => json!({"running": {"startedAt": Time(*since)}}),
            State::Ended(code) => {
                let reason = if *code == 0 { "Completed" } else { "Error" };
                json!({"terminated": {"exitCode": code, "reason": reason}})
            }
        };
        json!({
            "name": self.name,
            "image": self.image,
            "imageID": self.image,
            "state": state,
            "ready": self.is_ready,
            "started": matches!(self.state, State::Running(_)),
            "restartCount": self.restarts,
        })
    }
}
