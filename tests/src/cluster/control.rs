//! The control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler in a network
//! namespace, with a PKI of their own and RBAC on.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::driver::Driver;
use super::forward::Forward;
use super::kubeconfig::{self, User};
use super::pki::{Authority, Identity};
use super::programs::Programs;
use crate::host::{self, Host, Process};
use crate::rig::wait_within;

/// A control plane that runs. Dropping it ends it and removes its files.
pub struct ControlPlane {
    programs: Programs,
    directory: PathBuf,
    authority: Authority,
    api_arguments: Vec<String>,
    api: Mutex<Option<Process>>,
    /// The controllers, the scheduler and etcd, in the order in which they go.
    others: Vec<Process>,
    client: Client,
    forward: Forward,
    driver: Driver,
    host: Host,
    _files: Files,
}

/// What a control plane is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Starts every name that it makes.
    pub prefix: String,
    /// Its programs.
    pub programs: Programs,
    /// Whether the API server writes down who asked for what.
    pub audit: Audit,
}

/// Whether the API server writes an audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// It does not.
    Off,
    /// User, verb, object and answer of each request.
    Metadata,
}

/// From where a kubeconfig reaches the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// From the machine itself, through a loopback port.
    Machine,
    /// From hosts of the cluster's LAN.
    Lan,
}

impl Place {
    fn server(self, forwarded: u16) -> String {
        match self {
            Self::Machine => format!("https://127.0.0.1:{forwarded}"),
            Self::Lan => format!("https://{CONTROL_V4}:{API_PORT}"),
        }
    }

    fn admin(self) -> &'static str {
        match self {
            Self::Machine => "admin",
            Self::Lan => "admin-lan",
        }
    }
}

impl ControlPlane {
    /// Starts one on a host with nothing but `lo`.
    pub fn start(options: &Options) -> Result<Self> {
        let host = Host::create(&format!("{}-control", options.prefix))?;
        host.ip(&format!("addr add {CONTROL_V4}/32 dev lo"))?;
        Self::start_on(host, options)
    }

    /// Starts one on a host that has the control plane's address, and waits until it serves.
    pub fn start_on(host: Host, options: &Options) -> Result<Self> {
        let directory = host::run_directory(&options.prefix).join("control");
        fs::create_dir_all(&directory)?;
        let files = Files(directory.clone());
        let authority = Authority::create(&directory.join("pki"))?;
        let token_key = authority.token_key()?;
        let api_arguments = api_arguments(&authority, &token_key, &directory, options.audit)?;
        let admin = authority.user("admin", "admin", Some("system:masters"))?;
        let forward = Forward::start(
            &host,
            SocketAddr::new(IpAddr::V4([127, 0, 0, 1].into()), API_PORT),
        )?;
        let driver = Driver::start("cluster")?;
        let mut others = vec![start_etcd(&host, &options.programs, &directory)?];
        let api = start_api(&host, &options.programs, &directory, &api_arguments)?;
        let user = User::Certificate(&admin);
        for place in [Place::Machine, Place::Lan] {
            let server = place.server(forward.port());
            let name = place.admin();
            kubeconfig::write(&directory, name, &server, &authority.certificate(), &user)?;
        }
        let path = kubeconfig::path(&directory, Place::Machine.admin());
        let client = driver.block_on(client(&path))?;
        let mut plane = Self {
            programs: options.programs.clone(),
            authority,
            api_arguments,
            api: Mutex::new(Some(api)),
            others: Vec::new(),
            client,
            forward,
            driver,
            host,
            directory,
            _files: files,
        };
        plane.wait_for_api()?;
        others.extend(plane.start_controllers(&token_key)?);
        others.reverse();
        plane.others = others;
        plane.wait_for_controllers()?;
        Ok(plane)
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// A client that may do everything.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What drives the client; wait for its answers here.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// A kubeconfig that may do everything.
    pub fn kubeconfig(&self, place: Place) -> PathBuf {
        kubeconfig::path(&self.directory, place.admin())
    }

    /// A kubeconfig of `name` for the bearer of a token.
    pub fn kubeconfig_for_token(&self, name: &str, place: Place, token: &str) -> Result<PathBuf> {
        let server = place.server(self.forward.port());
        self.write_kubeconfig(name, &server, &User::Token(token))
    }

    /// A kubeconfig for the owner of a new client certificate: a user of this name.
    pub fn kubeconfig_for_user(&self, name: &str, place: Place) -> Result<PathBuf> {
        let identity = self.authority.user(name, name, None)?;
        let server = place.server(self.forward.port());
        self.write_kubeconfig(name, &server, &User::Certificate(&identity))
    }

    /// A token of a service account.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace])?;
        Ok(token.trim().to_owned())
    }

    /// Runs `kubectl` and gives what it printed; an error shows what it complained about.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl_command()?.args(arguments).output()?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("kubectl {}: {}", arguments.join(" "), complaint.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `kubectl`, as one who may do everything.
    pub fn kubectl_command(&self) -> Result<Command> {
        let mut command = Command::new(self.programs.path("kubectl")?);
        command
            .env("KUBECONFIG", self.kubeconfig(Place::Machine))
            .env("KUBECACHEDIR", self.directory.join("kubectl-cache"));
        Ok(command)
    }

    /// Applies manifests, server-side.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let file = self.directory.join("apply.yaml");
        let _one_at_a_time = self.lock_api();
        fs::write(&file, manifests)?;
        let path = file.to_string_lossy();
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path])
            .map(drop)
    }

    /// Ends the API server without notice.
    pub fn stop_api(&self) {
        self.lock_api().take();
    }

    /// Starts the API server again, and waits until it serves.
    pub fn start_api(&self) -> Result<()> {
        self.start_api_with(&[])
    }

    /// Starts the API server again with further arguments, and waits until it serves.
    pub fn start_api_with(&self, more: &[&str]) -> Result<()> {
        let mut arguments = self.api_arguments.clone();
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let api = start_api(&self.host, &self.programs, &self.directory, &arguments)?;
        *self.lock_api() = Some(api);
        self.wait_for_api()
    }

    /// Sends a signal to the API server: `STOP` makes it hang, `CONT` go on.
    pub fn signal_api(&self, signal: &str) -> Result<()> {
        let api = self.lock_api();
        let id = api.as_ref().context("the API server does not run")?.id();
        host::run(Command::new("kill").args([&format!("-{signal}"), &id.to_string()]))
    }

    /// Paths of the API server's certificate and key.
    pub(super) fn api_certificate(&self) -> (PathBuf, PathBuf) {
        let Identity { certificate, key } = self.authority.identity(API_SERVER, "crt");
        (certificate, key)
    }

    /// The audit log so far, a JSON object a line.
    pub fn audit_log(&self) -> Result<String> {
        let path = audit_log(&self.directory);
        fs::read_to_string(&path).context("the API server writes no audit log")
    }

    /// The directory of its files, logs among them.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn lock_api(&self) -> MutexGuard<'_, Option<Process>> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_api(&self) -> Result<()> {
        let is_ready = || {
            if let Some(api) = self.lock_api().as_mut()
                && let Some(status) = api.ended()?
            {
                bail!("kube-apiserver ended with {status}");
            }
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let answer = self.driver.block_on(self.client.request_text(request));
            Ok(answer.is_ok_and(|text| text == "ok"))
        };
        let log = self.directory.join("kube-apiserver.log");
        wait_within(PATIENCE, "the API server", is_ready).with_context(|| tail(&log))
    }

    fn write_kubeconfig(&self, name: &str, server: &str, user: &User<'_>) -> Result<PathBuf> {
        let authority = self.authority.certificate();
        kubeconfig::write(&self.directory, name, server, &authority, user)
    }

    fn start_controllers(&self, token_key: &Identity) -> Result<Vec<Process>> {
        let start = |name: &str, arguments: &[String]| {
            let identity = self.authority.user(name, &format!("system:{name}"), None)?;
            let server = format!("https://127.0.0.1:{API_PORT}");
            let config = self.write_kubeconfig(name, &server, &User::Certificate(&identity))?;
            let mut command = self.host.command(self.programs.path(name)?);
            command
                .arg(format!("--kubeconfig={}", config.display()))
                .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
                .args(["--kube-api-qps=500", "--kube-api-burst=1000"])
                .args(arguments);
            Process::spawn(command, &self.directory.join(format!("{name}.log")))
        };
        let controllers = [
            format!(
                "--service-account-private-key-file={}",
                token_key.key.display()
            ),
            format!("--root-ca-file={}", self.authority.certificate().display()),
            "--use-service-account-credentials=true".into(),
            "--allocate-node-cidrs=false".into(),
            // Nodes say that they live only now and then; an outage of the API is no death of all.
            "--node-monitor-grace-period=1h".into(),
        ];
        Ok(vec![
            start("kube-controller-manager", &controllers)?,
            start("kube-scheduler", &[])?,
        ])
    }

    /// Pods are refused until their service account is there.
    fn wait_for_controllers(&self) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), "default");
        let is_there = || Ok(self.driver.block_on(accounts.get_opt("default"))?.is_some());
        let log = self.directory.join("kube-controller-manager.log");
        wait_within(PATIENCE, "the default service account", is_there).with_context(|| tail(&log))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.others.clear();
        self.stop_api();
    }
}

/// Removes the control plane's files, and its rig's directory if nobody else uses that.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn start_etcd(host: &Host, programs: &Programs, directory: &Path) -> Result<Process> {
    let mut etcd = host.command(programs.path("etcd")?);
    etcd.arg(format!("--data-dir={}", directory.join("etcd").display()))
        .arg(format!("--listen-client-urls={ETCD}"))
        .arg(format!("--advertise-client-urls={ETCD}"))
        .args([
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        ]);
    let process = Process::spawn(etcd, &directory.join("etcd.log"))?;
    let address = SocketAddr::new([127, 0, 0, 1].into(), ETCD_PORT);
    let log = directory.join("etcd.log");
    wait_within(PATIENCE, "etcd", || {
        Ok(host.run(|| std::net::TcpStream::connect(address))?.is_ok())
    })
    .with_context(|| tail(&log))?;
    Ok(process)
}

fn start_api(
    host: &Host,
    programs: &Programs,
    directory: &Path,
    arguments: &[String],
) -> Result<Process> {
    let mut api = host.command(programs.path("kube-apiserver")?);
    api.args(arguments);
    Process::spawn(api, &directory.join("kube-apiserver.log"))
}

fn api_arguments(
    authority: &Authority,
    token_key: &Identity,
    directory: &Path,
    audit: Audit,
) -> Result<Vec<String>> {
    let server = authority.server(
        API_SERVER,
        &[
            "localhost",
            "kubernetes",
            "kubernetes.default.svc",
            "127.0.0.1",
            CONTROL_V4,
            API_SERVICE_V4,
        ],
    )?;
    let mut arguments = vec![
        format!("--etcd-servers={ETCD}"),
        format!("--secure-port={API_PORT}"),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--advertise-address={CONTROL_V4}"),
        format!("--service-cluster-ip-range={SERVICES}"),
        format!("--tls-cert-file={}", server.certificate.display()),
        format!("--tls-private-key-file={}", server.key.display()),
        format!("--client-ca-file={}", authority.certificate().display()),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!(
            "--service-account-signing-key-file={}",
            token_key.key.display()
        ),
        format!(
            "--service-account-key-file={}",
            token_key.certificate.display()
        ),
        "--authorization-mode=Node,RBAC".into(),
        "--allow-privileged=true".into(),
        "--profiling=false".into(),
        // Webhooks are called at their endpoints: no kube-proxy runs beside the API server.
        "--enable-aggregator-routing=true".into(),
    ];
    if audit == Audit::Metadata {
        let policy = directory.join("audit-policy.yaml");
        fs::write(&policy, AUDIT_POLICY)?;
        arguments.push(format!("--audit-policy-file={}", policy.display()));
        arguments.push(format!(
            "--audit-log-path={}",
            audit_log(directory).display()
        ));
    }
    Ok(arguments)
}

fn audit_log(directory: &Path) -> PathBuf {
    directory.join("audit.log")
}

/// The end of a log, for errors.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    format!("{}:\n{}", log.display(), last.join("\n"))
}

/// The control plane on the LAN.
pub const CONTROL_V4: &str = "10.1.0.10";
/// Port of the API server.
pub const API_PORT: u16 = 6443;
/// The API server as a Service, as pods know it.
pub const API_SERVICE_V4: &str = "10.96.0.1";

const API_SERVER: &str = "kube-apiserver";
const SERVICES: &str = "10.96.0.0/16,fd96::/108";
const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PORT: u16 = 2379;
/// Another program may have the machine busy.
const PATIENCE: Duration = Duration::from_mins(1);
const LOG_LINES: usize = 15;
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\n\
                            kind: Policy\n\
                            omitStages: [RequestReceived]\n\
                            rules: [{level: Metadata}]\n";
