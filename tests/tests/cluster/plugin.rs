//! `kubectl sluice`: the real kubectl, the API server, and pods on several nodes.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ingress_tests::cluster::{Cluster, Options};
use ingress_tests::curl::Request;
use serde_json::Value;

#[test]
#[ignore = "needs root: network namespaces"]
fn kubectl_sluice_asks_all_edge_nodes() -> Result<()> {
    let stage = Stage::set(2)?;
    let (code, text) = stage.run(&["status"])?;
    ensure!(code == 0, "{code}: {text}");
    ensure!(
        text.contains("== edge1\n") && text.contains("== edge2\n"),
        "{text}"
    );
    ensure!(!text.contains("worker"), "{text}");

    let (code, text) = stage.run(&["datapath", "-o", "json"])?;
    let answers: Value = serde_json::from_str(&text)?;
    let nodes = answers.as_array().into_iter().flatten();
    let nodes: Vec<_> = nodes.filter_map(|it| it["node"].as_str()).collect();
    assert_eq!((code, nodes), (0, vec!["edge1", "edge2"]));
    ensure!(
        answers[0]["output"].is_object() || answers[0]["output"].is_array(),
        "{text}"
    );

    // A verb that finds fault keeps its exit status and its words.
    let (code, text) = stage.run(&["--node", "edge1", "explain", "http://nobody.test/"])?;
    ensure!(
        code == 1 && text.contains("nobody.test") && !text.contains("edge2"),
        "{text}"
    );

    let (code, text) = stage.run(&["--node", "worker1", "status"])?;
    ensure!(code == 1 && text.contains("edge1, edge2"), "{text}");
    let (code, text) = stage.run(&["satus"])?;
    ensure!(code == 2 && text.contains("status"), "{text}");
    let (code, text) = stage.run(&["top"])?;
    ensure!(code == 1 && text.contains("one node"), "{text}");
    stage.lines_of_all_nodes_are_followed()?;
    stage.node_that_is_away_is_named()
}

/// A cluster with Sluice on its edge nodes, and the plugin.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    plugins: PathBuf,
}

impl Stage {
    pub(crate) fn set(edges: usize) -> Result<Self> {
        let kubelet = env::var_os("SLUICE_KUBELET").map(PathBuf::from);
        let cluster = Cluster::start(&Options {
            edges,
            workers: 1,
            kubelet: Some(kubelet.context("SLUICE_KUBELET is not set: run `cargo xtask test`")?),
            ..Options::from_env()?
        })?;
        cluster.install_sluice(&[])?;
        let plugins = cluster.path("plugins");
        fs::create_dir_all(&plugins)?;
        let sluice = env::var_os("SLUICE_BINARY").context("SLUICE_BINARY is not set")?;
        symlink(
            Path::new(&sluice).canonicalize()?,
            plugins.join("kubectl-sluice"),
        )?;
        Ok(Self { cluster, plugins })
    }

    /// kubectl that finds the plugin, and that the plugin finds.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<Command> {
        let mut kubectl = self.cluster.plane.kubectl_command()?;
        let programs = Path::new(kubectl.get_program()).with_file_name("");
        let path = env::var_os("PATH").unwrap_or_default();
        let path = [self.plugins.clone(), programs]
            .into_iter()
            .chain(env::split_paths(&path));
        kubectl.env("PATH", env::join_paths(path)?);
        kubectl.arg("sluice").args(arguments);
        Ok(kubectl)
    }

    /// The exit status and all that was printed.
    fn run(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let output = self.kubectl(arguments)?.output()?;
        let mut text = String::from_utf8(output.stdout)?;
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok((output.status.code().context("kubectl was killed")?, text))
    }

    fn lines_of_all_nodes_are_followed(&self) -> Result<()> {
        let mut tail = self.kubectl(&["tail", "-o", "json"])?;
        let mut tail = Running(tail.stdout(Stdio::piped()).spawn()?);
        let lines = tail.0.stdout.take().context("no output")?;
        let mut lines = BufReader::new(lines).lines();
        let mut seen = Vec::new();
        for node in ["edge1", "edge2"] {
            let url = format!("http://{}/seen-on-{node}", self.cluster.node(node)?.v4);
            // Requests from before the watcher are not shown.
            let mut shown = || -> Result<Value> {
                let ask = || Request::get(&url, "tail.test").send(&self.cluster.network.client);
                ask()?;
                let line = lines.next().context("the tail ended")??;
                Ok(serde_json::from_str(&line)?)
            };
            std::thread::sleep(std::time::Duration::from_secs(2));
            seen.push(shown()?);
        }
        for (line, node) in seen.iter().zip(["edge1", "edge2"]) {
            assert_eq!(line["node"], node);
            assert_eq!(line["path"], format!("/seen-on-{node}"), "{line}");
        }
        Ok(())
    }

    /// Has a node no longer find the container of Sluice.
    pub(crate) fn take_away(&self, node: &str) -> Result<()> {
        let pod = self.cluster.sluice_pod(node)?;
        let file = format!("logs/sluice-system_{pod}_sluice.pid");
        Ok(fs::remove_file(self.cluster.path(&file))?)
    }

    fn node_that_is_away_is_named(&self) -> Result<()> {
        self.take_away("edge2")?;
        let (code, text) = self.run(&["status"])?;
        ensure!(
            code == 3 && text.contains("== edge2\nnot reached: "),
            "{code} {text}"
        );
        ensure!(
            text.contains("== edge1\n") && text.contains("generation"),
            "{text}"
        );
        Ok(())
    }
}

/// Ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
