//! The container image runs with the rights and volumes that the DaemonSet gives it, and no others.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::cluster::programs::Programs;
use ingress_tests::curl::Request;
use ingress_tests::host::{bpffs_directory, mount_bpffs};
use ingress_tests::image::{Image, Pod, Running, capabilities};
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::{EDGE_V4, Options, POD1_V4, Rig, wait_until};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn image_serves_through_the_datapath_with_the_daemon_sets_rights_and_volumes() -> Result<()> {
    let rig = Rig::build(Options::from_env()?)?;
    let directory = rig.path("image");
    let image = Image::unpack(&from_environment("SLUICE_IMAGE")?, &directory)?;
    mount_bpffs()?;
    let pins = bpffs_directory(&rig.prefix).join("image");
    fs::create_dir_all(&pins)?;
    let manifests = rig.path("manifests");
    Manifest::default()
        .serve("near.test", &[POD1_V4])
        .save(&manifests)?;
    let spec = rendered_pod()?;
    let container = spec.containers.first().context("a container")?;
    let pod = Pod {
        spec: &spec,
        network: rig.edge.name(),
        fields: &[
            ("metadata.name", "sluice-0"),
            ("metadata.namespace", "sluice-system"),
            ("spec.nodeName", "edge"),
            ("status.podIP", EDGE_V4),
        ],
        node_paths: &[("/sys/fs/bpf/sluice", &pins)],
        // In place of an API server.
        arguments: &[format!("--manifests={}", manifests.display())],
        readable: &[&manifests],
        seccomp: default_profile(&capabilities(container)?)?,
    };
    let mut running = Running::start(&rig.prefix, &image, &pod, &directory)?;
    becomes_ready(&mut running, &pod).with_context(|| running.log())?;
    let status = running.exec(&["/sluice", "status", "--output=json"].map(str::to_owned))?;
    let status: Value = serde_json::from_slice(&status)?;
    let datapath = &status["datapath"];
    ensure!(datapath["mode"] == "netns", "{datapath}\n{}", running.log());
    is_confined(running.id()?, &capabilities(container)?)?;
    let response = Request::get(&format!("http://{EDGE_V4}/"), "near.test").send(&rig.client)?;
    assert_eq!(response.status, 200);
    let scrape = rig.edge.sh(&format!(
        "curl --silent --fail http://{EDGE_V4}:10254/metrics"
    ))?;
    let steered = "sluice_datapath_packets_total{program=\"steer\",reason=\"frontend\"}";
    ensure!(scrape.contains(steered), "{scrape}");
    running.stop()
}

#[test]
fn image_holds_the_binary_its_libraries_certificates_and_licences_only() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let image = Image::unpack(&from_environment("SLUICE_IMAGE")?, directory.path())?;
    let is_library = |file: &String| file.starts_with("/lib");
    let (libraries, others): (BTreeSet<_>, BTreeSet<_>) =
        image.files()?.into_iter().partition(is_library);
    let expected = [
        "/LICENSE",
        "/etc/group",
        "/etc/nsswitch.conf",
        "/etc/passwd",
        "/etc/ssl/certs/ca-certificates.crt",
        "/sluice",
        "/usr/share/doc/ca-certificates/copyright",
        "/usr/share/doc/libc6/copyright",
        "/usr/share/doc/libgcc-s1/copyright",
    ];
    assert_eq!(others, expected.map(str::to_owned).into());
    let is_expected = |file: &String| {
        let name = file.rsplit('/').next().unwrap_or_default();
        ["libc.", "libm.", "libgcc_s.", "ld-linux"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    ensure!(libraries.iter().all(is_expected), "{libraries:?}");
    Ok(())
}

/// The pod of the DaemonSet as kustomize renders the base.
fn rendered_pod() -> Result<PodSpec> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy/kustomize/base");
    let mut kubectl = Command::new(Programs::from_env().path("kubectl")?);
    let output = kubectl.arg("kustomize").arg(base).output()?;
    let rendered = String::from_utf8(output.stdout)?;
    for document in rendered.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document)?;
        if object["kind"] == "DaemonSet" {
            let daemon_set: DaemonSet = serde_json::from_value(object)?;
            let template = daemon_set.spec.context("no spec")?.template;
            return template.spec.context("no pod");
        }
    }
    Err(anyhow::anyhow!("no DaemonSet in:\n{rendered}"))
}

/// The seccomp profile of containerd for a container with these capabilities.
fn default_profile(capabilities: &[String]) -> Result<Value> {
    let mut profile = Command::new(from_environment("SLUICE_SECCOMP")?);
    let output = profile.args(capabilities).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Waits until the readiness probe of the pod succeeds.
fn becomes_ready(running: &mut Running, pod: &Pod<'_>) -> Result<()> {
    let probe = pod.container()?.readiness_probe.as_ref();
    let exec = probe
        .and_then(|probe| probe.exec.as_ref())
        .context("a probe by exec")?;
    let command = exec.command.clone().context("a command")?;
    wait_until("the readiness probe to succeed", || {
        ensure!(!running.has_ended()?, "the container has ended");
        Ok(running.exec(&command).is_ok())
    })
}

/// Compares the rights of the container with those that the kernel tells (`proc(5)`). The daemon gives up
/// rights by itself, so they are read of its child, the helper, which keeps all that the runtime gave.
fn is_confined(process: u32, capabilities: &[String]) -> Result<()> {
    let children = format!("/proc/{process}/task/{process}/children");
    let helper = fs::read_to_string(children)?.trim().to_owned();
    let status = fs::read_to_string(format!("/proc/{helper}/status"))?;
    let value = |name: &str| -> Result<&str> {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(name));
        Ok(line
            .with_context(|| format!("no {name} in {status}"))?
            .trim())
    };
    assert_eq!(value("NoNewPrivs:")?, "1");
    assert_eq!(value("Seccomp:")?, "2", "a filter");
    let mut allowed = 0;
    for name in capabilities {
        let known = KERNEL_CAPABILITIES.iter().find(|(known, _)| known == name);
        allowed |= 1_u64 << known.with_context(|| format!("{name} is unknown"))?.1;
    }
    for set in ["CapPrm:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(value(set)?, 16)?, allowed, "{set}");
    }
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo"))?;
    let fields = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let mut roots = fields.filter(|fields| fields.get(4) == Some(&"/"));
    let options = roots.next_back().context("no root")?;
    ensure!(
        options[5].split(',').any(|option| option == "ro"),
        "{options:?}"
    );
    Ok(())
}

fn from_environment(name: &str) -> Result<PathBuf> {
    let path = env::var_os(name);
    let path =
        path.with_context(|| format!("{name} is not set: run tests by `cargo xtask test`"))?;
    Ok(path.into())
}

/// `linux/capability.h`.
const KERNEL_CAPABILITIES: [(&str, u32); 5] = [
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];
