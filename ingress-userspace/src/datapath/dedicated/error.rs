//! Why there is no dedicated uplink.

use std::io;

use thiserror::Error;

use super::super::gate::GateError;
use super::super::netlink::NetlinkError;
use super::super::object::ObjectError;
use super::Refusal;

/// Why the device of `--uplink-in-netns` is not in the ingress netns.
#[derive(Debug, Error)]
pub enum DedicatedError {
    /// It has to stay in the host.
    #[error("--uplink-in-netns: device `{device}` {refusal}")]
    Refused {
        /// Device name.
        device: String,
        /// The reason.
        refusal: Refusal,
    },
    /// The kernel refused a change.
    #[error("--uplink-in-netns: device `{device}` is not in the ingress network namespace")]
    Netlink {
        /// Device name.
        device: String,
        /// The kernel's error.
        #[source]
        source: NetlinkError,
    },
    /// The record can't be written or removed, or a namespace can't be entered.
    #[error("--uplink-in-netns: failed to {attempt} of device `{device}`")]
    Io {
        /// Device name.
        device: String,
        /// The operation that failed.
        attempt: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The ingress netns can't be set up for it.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The guard is missing in the object.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// A refusal of the kernel, as an error of this device.
pub(super) fn netlink(name: &str) -> impl FnOnce(NetlinkError) -> DedicatedError {
    let device = name.to_owned();
    move |source| DedicatedError::Netlink { device, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_device_flag_and_reason() {
        let error = DedicatedError::Refused {
            device: "eth1".to_owned(),
            refusal: Refusal::Missing,
        };
        assert_eq!(
            error.to_string(),
            "--uplink-in-netns: device `eth1` does not exist"
        );
    }
}
