//! Attaches the programs, each by the best means that the kernel and the device offer, and pins
//! the links, so that the next daemon replaces them without a gap.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::xdp::XdpLink;
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, SkLookup, TcAttachType, Xdp, XdpMode,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::debug;

use super::netlink::Link;
use super::netns::Namespace;

/// Why a program is not attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The kernel refused.
    #[error("failed to attach to `{device}`")]
    Program {
        /// Device name.
        device: String,
        /// The kernel's error.
        #[source]
        source: ProgramError,
    },
    /// The kernel attached it without a link, which would not outlive this process.
    #[error("the kernel has no link for what it attached to `{device}`")]
    NoLink {
        /// Device name.
        device: String,
        /// What aya said.
        #[source]
        source: LinkError,
    },
    /// The kernel refused a link of a netkit device.
    #[error("failed to attach to what is sent to `{device}`")]
    Netkit {
        /// Device name.
        device: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The link can't be pinned in bpffs.
    #[error("failed to pin the link of `{device}`")]
    Pin {
        /// Device name.
        device: String,
        /// The kernel's error.
        #[source]
        source: aya::pin::PinError,
    },
}

/// How a TC program is attached; what is asked for, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TcMode {
    /// TCX where the kernel has it, else clsact.
    Auto,
    /// A TCX link, first in order (Linux 6.6+).
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
    /// Likewise, and the gate is a netkit pair where the kernel has it (Linux 6.7+). Experimental: on 6.12
    /// a client that changes its link-layer address may lose a request.
    Netkit,
}

/// How the XDP program is attached; what is asked for, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum GuardMode {
    /// Native where the driver can, else generic, else off.
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's generic receive path.
    Generic,
    /// Not at all.
    Off,
}

/// An attached program. Dropping it leaves the program attached; [`Attachment::detach`] does not.
#[derive(Debug)]
pub struct Attachment {
    held: Held,
}

#[derive(Debug)]
enum Held {
    Pinned {
        link: PinnedLink,
        pin: PathBuf,
    },
    Filter {
        device: String,
        program: &'static str,
    },
}

impl Attachment {
    /// Detaches the program and removes the pin. A device that is gone is no error.
    pub fn detach(self) {
        match self.held {
            Held::Pinned { link, .. } => drop(link.unpin()),
            Held::Filter { device, program } => {
                let _ = qdisc_detach_program(&device, TcAttachType::Ingress, program);
            }
        }
    }
}

/// Attaches a TC program to the ingress of a device, before whoever else is there.
pub(super) fn tc(
    program: &mut SchedClassifier,
    name: &'static str,
    device: &Link,
    mode: TcMode,
    pins: &Path,
) -> Result<(Attachment, TcMode), AttachError> {
    let pin = pin_path(pins, name, device);
    if mode != TcMode::Clsact {
        match tcx(program, device, &pin) {
            Ok(attachment) => return Ok((attachment, TcMode::Tcx)),
            Err(error) if mode == TcMode::Tcx => return Err(error),
            Err(error) => debug!(device = device.name, %error, "no TCX here, trying clsact"),
        }
    }
    clsact(program, name, device).map(|attachment| (attachment, TcMode::Clsact))
}

/// Attaches a TC program to what the ingress netns sends through a gate that is a netkit pair.
pub(super) fn netkit(
    program: &SchedClassifier,
    name: &'static str,
    gate: &Link,
    pins: &Path,
) -> Result<(Attachment, TcMode), AttachError> {
    let pin = pin_path(pins, &format!("{name}-netkit"), gate);
    let device = || gate.name.clone();
    let descriptor = program.fd().map_err(|source| AttachError::Program {
        device: device(),
        source,
    })?;
    let link = super::netkit::attach(descriptor.as_fd(), gate.index, &pin);
    let link = link.map_err(|source| AttachError::Netkit {
        device: device(),
        source,
    })?;
    let held = Held::Pinned { link, pin };
    Ok((Attachment { held }, TcMode::Netkit))
}

/// Attaches the guard, by the best mode that works; `Off` with the reason where none does.
pub(super) fn xdp(
    program: &mut Xdp,
    device: &Link,
    mode: GuardMode,
    pins: &Path,
) -> (Option<Attachment>, GuardMode, Option<String>) {
    let attempts: &[(GuardMode, XdpMode)] = match mode {
        GuardMode::Off => return (None, GuardMode::Off, Some("switched off".into())),
        GuardMode::Native => &[(GuardMode::Native, XdpMode::Driver)],
        GuardMode::Generic => &[(GuardMode::Generic, XdpMode::Skb)],
        GuardMode::Auto => &[
            (GuardMode::Native, XdpMode::Driver),
            (GuardMode::Generic, XdpMode::Skb),
        ],
    };
    let mut reason = None;
    for (mode, xdp_mode) in attempts {
        let pin = pin_path(pins, &format!("guard-{mode:?}").to_lowercase(), device);
        match xdp_link(program, device, *xdp_mode, &pin) {
            Ok(attachment) => return (Some(attachment), *mode, reason),
            Err(error) => {
                reason = Some(format!("{mode:?} XDP: {}", with_sources(&error)).to_lowercase());
            }
        }
    }
    (None, GuardMode::Off, reason)
}

/// Attaches the dispatcher to the ingress netns.
pub(super) fn sk_lookup(
    program: &mut SkLookup,
    namespace: &Namespace,
    pins: &Path,
) -> Result<Attachment, AttachError> {
    let device = || "ingress network namespace".to_owned();
    let failed = |source| AttachError::Program {
        device: device(),
        source,
    };
    // The new program joins the old one, which then leaves: there is no moment without one.
    let id = program.attach(namespace).map_err(failed)?;
    let link: FdLink = program.take_link(id).map_err(failed)?.into();
    let pin = pins.join("dispatch");
    let _ = fs::remove_file(&pin);
    let link = link.pin(&pin).map_err(|source| AttachError::Pin {
        device: device(),
        source,
    })?;
    Ok(Attachment {
        held: Held::Pinned { link, pin },
    })
}

/// Removes the pins of links whose attachment nobody holds: devices that are gone, or programs
/// that are off now. The kernel detaches them with their last reference.
pub(super) fn forget_other_links(pins: &Path, kept: &[&Attachment]) -> io::Result<()> {
    for entry in fs::read_dir(pins)? {
        let path = entry?.path();
        let is_kept = kept
            .iter()
            .any(|attachment| attachment.pin().is_some_and(|pin| pin == path));
        if !is_kept {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl Attachment {
    fn pin(&self) -> Option<PathBuf> {
        match &self.held {
            Held::Pinned { pin, .. } => Some(pin.clone()),
            Held::Filter { .. } => None,
        }
    }
}

fn tcx(
    program: &mut SchedClassifier,
    device: &Link,
    pin: &Path,
) -> Result<Attachment, AttachError> {
    let failed = |source| AttachError::Program {
        device: device.name.clone(),
        source,
    };
    let adopted = adopt(pin)
        .and_then(|link| SchedClassifierLink::try_from(link).ok())
        .and_then(|link| program.attach_to_link(link).ok());
    let is_adopted = adopted.is_some();
    let id = if let Some(id) = adopted {
        id
    } else {
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let _ = fs::remove_file(pin);
        program
            .attach_with_options(&device.name, TcAttachType::Ingress, order)
            .map_err(failed)?
    };
    let link = program.take_link(id).map_err(failed)?;
    let link = FdLink::try_from(link).map_err(no_link(device))?;
    keep(link, pin, device, is_adopted)
}

fn xdp_link(
    program: &mut Xdp,
    device: &Link,
    mode: XdpMode,
    pin: &Path,
) -> Result<Attachment, AttachError> {
    let failed = |source| AttachError::Program {
        device: device.name.clone(),
        source,
    };
    let adopted = adopt(pin)
        .and_then(|link| XdpLink::try_from(link).ok())
        .and_then(|link| program.attach_to_link(link).ok());
    let is_adopted = adopted.is_some();
    let id = if let Some(id) = adopted {
        id
    } else {
        let _ = fs::remove_file(pin);
        program
            .attach_to_if_index(device.index, mode)
            .map_err(failed)?
    };
    let link = program.take_link(id).map_err(failed)?;
    let link = FdLink::try_from(link).map_err(no_link(device))?;
    keep(link, pin, device, is_adopted)
}

fn clsact(
    program: &mut SchedClassifier,
    name: &'static str,
    device: &Link,
) -> Result<Attachment, AttachError> {
    let failed = |source| AttachError::Program {
        device: device.name.clone(),
        source,
    };
    // Already there is what is wanted; any other fault shows when the filter is added.
    let _ = qdisc_add_clsact(&device.name);
    let _ = qdisc_detach_program(&device.name, TcAttachType::Ingress, name);
    let options = NlOptions {
        priority: 1,
        // Somebody else may have a filter of a certain handle there.
        handle: TcHandle::AUTO_ASSIGN,
        classid: None,
    };
    let options = TcAttachOptions::Netlink(options);
    let id = program
        .attach_with_options(&device.name, TcAttachType::Ingress, options)
        .map_err(failed)?;
    // The filter has to outlive this process like a pinned link does.
    std::mem::forget(program.take_link(id).map_err(failed)?);
    Ok(Attachment {
        held: Held::Filter {
            device: device.name.clone(),
            program: name,
        },
    })
}

fn adopt(pin: &Path) -> Option<FdLink> {
    PinnedLink::from_pin(pin).ok().map(FdLink::from)
}

fn keep(
    link: FdLink,
    pin: &Path,
    device: &Link,
    is_adopted: bool,
) -> Result<Attachment, AttachError> {
    if is_adopted {
        // The pin is there already; opening it again gives the same link.
        if let Ok(link) = PinnedLink::from_pin(pin) {
            return Ok(Attachment {
                held: Held::Pinned {
                    link,
                    pin: pin.to_path_buf(),
                },
            });
        }
    }
    let link = link.pin(pin).map_err(|source| AttachError::Pin {
        device: device.name.clone(),
        source,
    })?;
    Ok(Attachment {
        held: Held::Pinned {
            link,
            pin: pin.to_path_buf(),
        },
    })
}

fn no_link(device: &Link) -> impl FnOnce(LinkError) -> AttachError {
    let device = device.name.clone();
    move |source| AttachError::NoLink { device, source }
}

fn pin_path(pins: &Path, program: &str, device: &Link) -> PathBuf {
    // bpffs refuses dots in names, VLAN devices usually have one.
    let device = format!("{}-{}", device.name.replace('.', "_"), device.index);
    pins.join(format!("{program}-{device}"))
}

/// The message of an error and of all that caused it.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
