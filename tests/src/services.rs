//! kube-proxy's rules, in iptables mode, as it writes them for a number of Services.
//!
//! One Service is real: the NodePort that leads to the proxy pod. The others have `ClusterIP`s
//! that nobody asks for; they make the chains as long as a cluster of that size would.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::host::Host;
use crate::rig::PROXY_V4;

/// The port of the node that leads to the proxy pod.
pub const NODE_PORT: u16 = 30080;
/// The port that the proxy pod listens on.
pub const PROXY_PORT: u16 = 80;

/// Installs the rules for `count` Services and the NodePort.
pub fn install(node: &Host, count: usize) -> Result<()> {
    let mut restore = node.command("iptables-restore");
    let mut restore = restore
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = restore
        .stdin
        .take()
        .context("iptables-restore has no standard input")?;
    stdin.write_all(rules(count).as_bytes())?;
    drop(stdin);
    let output = restore.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "iptables-restore: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// The rules in the format of `iptables-restore`.
fn rules(count: usize) -> String {
    let mut chains = String::new();
    let mut services = String::new();
    let mut endpoints = String::new();
    for number in 0..count {
        let cluster_ip = format!("10.96.{}.{}", number / 250, number % 250 + 1);
        let endpoint = format!("10.3.{}.{}", number / 250, number % 250 + 1);
        let _ = writeln!(
            chains,
            ":KUBE-SVC-{number:016} - [0:0]\n:KUBE-SEP-{number:016} - [0:0]"
        );
        let _ = writeln!(
            services,
            "-A KUBE-SERVICES -d {cluster_ip}/32 -p tcp -m comment --comment \"demo/svc-{number} \
             cluster IP\" -m tcp --dport 80 -j KUBE-SVC-{number:016}"
        );
        let _ = writeln!(
            endpoints,
            "-A KUBE-SVC-{number:016} ! -s 10.2.0.0/16 -d {cluster_ip}/32 -p tcp -m tcp --dport 80 \
             -j KUBE-MARK-MASQ\n\
             -A KUBE-SVC-{number:016} -m comment --comment \"demo/svc-{number} -> {endpoint}:8080\" \
             -j KUBE-SEP-{number:016}\n\
             -A KUBE-SEP-{number:016} -s {endpoint}/32 -j KUBE-MARK-MASQ\n\
             -A KUBE-SEP-{number:016} -p tcp -m tcp -j DNAT --to-destination {endpoint}:8080"
        );
    }
    format!(
        "*filter\n\
         :KUBE-FORWARD - [0:0]\n\
         :KUBE-FIREWALL - [0:0]\n\
         -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
         -A INPUT -j KUBE-FIREWALL\n\
         -A OUTPUT -j KUBE-FIREWALL\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         COMMIT\n\
         *nat\n\
         :KUBE-SERVICES - [0:0]\n\
         :KUBE-NODEPORTS - [0:0]\n\
         :KUBE-POSTROUTING - [0:0]\n\
         :KUBE-MARK-MASQ - [0:0]\n\
         :KUBE-EXT-PROXY - [0:0]\n\
         :KUBE-SEP-PROXY - [0:0]\n\
         {chains}\
         -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n\
         -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j \
         MASQUERADE --random-fully\n\
         {services}\
         -A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be \
         the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n\
         -A KUBE-NODEPORTS -p tcp -m tcp --dport {NODE_PORT} -j KUBE-EXT-PROXY\n\
         -A KUBE-EXT-PROXY -m comment --comment \"masquerade traffic for external destinations\" \
         -j KUBE-MARK-MASQ\n\
         -A KUBE-EXT-PROXY -j KUBE-SEP-PROXY\n\
         -A KUBE-SEP-PROXY -p tcp -m tcp -j DNAT --to-destination {PROXY_V4}:{PROXY_PORT}\n\
         {endpoints}\
         COMMIT\n"
    )
}
