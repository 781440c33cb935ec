//! The programs that tests run; each is built only if a selected test needs it.

use std::path::PathBuf;

use anyhow::Result;

use super::Flags;
use super::suite::Suite;
use crate::{assets, compile, image};

/// Names of environment variables that tests read, and the programs that they name.
pub(super) fn build(
    suites: &[Suite],
    flags: &Flags,
    is_root: bool,
) -> Result<Vec<(&'static str, PathBuf)>> {
    let is_wanted = |is_it: fn(&Suite) -> bool| {
        let mut suites = suites.iter();
        suites.any(|suite| is_it(suite) && suite.is_wanted(&flags.names))
    };
    let mut binaries = Vec::new();
    if is_wanted(Suite::is_rig) {
        // An emulator takes its time for code that is not optimised.
        let programs = compile::sluice_and_rig(match flags.kernel {
            Some(_) => compile::Rig::Fast,
            None => compile::Rig::Dev,
        })?;
        binaries.push(("SLUICE_BINARY", programs.join("sluice")));
        binaries.push(("SLUICE_ORIGIN", programs.join("sluice-origin")));
    }
    if is_root && is_wanted(Suite::is_cluster) {
        binaries.push(("SLUICE_CLUSTER_BIN", assets::ensure()?));
    }
    if is_root && is_wanted(Suite::is_life) {
        binaries.push(("SLUICE_KUBELET", assets::kubelet()?));
        binaries.push(("SLUICE_CERT_MANAGER", assets::cert_manager()?));
    }
    if is_wanted(Suite::is_deploy) {
        let sluice = compile::target().join("debug/sluice");
        binaries.push(("SLUICE_IMAGE", image::of_tests(&sluice)?));
    }
    if is_root && is_wanted(Suite::is_deploy) {
        binaries.push(("SLUICE_HELM", assets::helm()?));
        binaries.push(("SLUICE_SECCOMP", assets::seccomp()?));
    }
    if is_wanted(Suite::is_host) {
        binaries.push(("SLUICE_CLIENTS", assets::clients()?));
        binaries.push(("SLUICE_OAUTH2_PROXY", assets::oauth2_proxy()?));
        binaries.push(("SLUICE_DEX", assets::dex()?));
    }
    let asks_pebble = |suite: &Suite| suite.is_control() || suite.is_life();
    if is_wanted(Suite::is_host) || (is_root && is_wanted(asks_pebble)) {
        binaries.push(("SLUICE_PEBBLE", assets::pebble()?));
    }
    if is_root && is_wanted(Suite::is_dashboard) {
        binaries.push(("SLUICE_DASHBOARD_MODULES", assets::browser_tests()?));
    }
    if is_root && is_wanted(Suite::is_counting) {
        binaries.push(("SLUICE_FAST_BINARY", compile::sluice_optimised()?));
        binaries.push(("SLUICE_WORK", compile::work()?));
    }
    Ok(binaries)
}
