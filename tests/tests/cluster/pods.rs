//! Pods on nodes: scheduled, reached through Services, replaced, ended in order.

use std::collections::BTreeSet;

use anyhow::Result;
use ingress_tests::cluster::node::ProxyMode;
use ingress_tests::cluster::{Cluster, Options};
use ingress_tests::curl::Request;
use ingress_tests::rig::wait_until;

#[test]
#[ignore = "needs root: network namespaces"]
fn deployments_live_as_on_real_nodes_with_nftables() -> Result<()> {
    deployments_live_as_on_real_nodes(ProxyMode::Nftables)
}

#[test]
#[ignore = "needs root: network namespaces"]
fn deployments_live_as_on_real_nodes_with_iptables() -> Result<()> {
    deployments_live_as_on_real_nodes(ProxyMode::Iptables)
}

fn deployments_live_as_on_real_nodes(proxy_mode: ProxyMode) -> Result<()> {
    let cluster = Cluster::start(&Options {
        proxy_mode,
        ..Options::from_env()?
    })?;
    cluster.plane.apply(WEB)?;
    cluster.roll_out("deployment/web")?;
    let web = Web { cluster: &cluster };
    cluster
        .plane
        .wait_for_endpoints("default", "web", &["IPv4", "IPv6"], 4)?;
    web.is_reached_through_its_service()?;
    web.scale_down_drains_before_it_ends()?;
    web.killed_container_is_unready_until_it_is_back()?;
    let directory = cluster.path("");
    drop(cluster);
    assert!(!directory.exists());
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces"]
fn pods_ask_the_api_as_their_service_account() -> Result<()> {
    let cluster = Cluster::start(&Options::from_env()?)?;
    cluster.plane.apply(ASKING)?;
    let phase = || {
        let jsonpath = "--output=jsonpath={.status.phase}";
        cluster.plane.kubectl(&["get", "pod", "asking", jsonpath])
    };
    wait_until("the pod to end", || Ok(phase()? == "Succeeded"))?;
    let log = cluster.log("default", "asking", "asking");
    assert!(log.contains("v1.36"), "{log}");
    let who = "\"username\":\"system:serviceaccount:default:default\"";
    assert!(cluster.plane.audit_log()?.contains(who));
    // Neither the node's file system nor its settings can be written.
    assert!(log.contains("read-only root"), "{log}");
    assert!(log.contains("read-only sysctl"), "{log}");
    assert!(log.contains("CapBnd:\t0000000000000400"), "{log}");
    Ok(())
}

struct Web<'a> {
    cluster: &'a Cluster,
}

impl Web<'_> {
    /// Addresses of the endpoints that are ready.
    fn endpoints(&self) -> Result<BTreeSet<String>> {
        self.cluster.plane.ready_endpoints("default", "web", "IPv4")
    }

    /// From a node, at the ClusterIP, all four pods answer sooner or later.
    fn is_reached_through_its_service(&self) -> Result<()> {
        let jsonpath = "--output=jsonpath={.spec.clusterIPs[*]}";
        let addresses = self
            .cluster
            .plane
            .kubectl(&["get", "service", "web", jsonpath])?;
        let addresses: Vec<&str> = addresses.split_whitespace().collect();
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        let node = self.cluster.node("edge1")?;
        for address in addresses {
            let url = if address.contains(':') {
                format!("http://[{address}]/")
            } else {
                format!("http://{address}/")
            };
            let mut pods = BTreeSet::new();
            wait_until("all pods to answer", || {
                if let Ok(response) = Request::get(&url, "web").send(&node.host) {
                    pods.insert(response.pod()?);
                }
                Ok(pods.len() == 4)
            })?;
        }
        Ok(())
    }

    fn scale_down_drains_before_it_ends(&self) -> Result<()> {
        self.cluster
            .plane
            .kubectl(&["scale", "deployment/web", "--replicas=1"])?;
        wait_until("one endpoint", || Ok(self.endpoints()?.len() == 1))?;
        // preStop leaves them alone for a second: they are terminating, and still there.
        let listed = self
            .cluster
            .plane
            .kubectl(&["get", "pods", "--output=json"])?;
        assert_eq!(listed.matches("deletionTimestamp").count(), 3, "{listed}");
        let count = || {
            let names = self
                .cluster
                .plane
                .kubectl(&["get", "pods", "--output=name"])?;
            Ok::<_, anyhow::Error>(names.lines().count())
        };
        wait_until("one pod", || Ok(count()? == 1))
    }

    fn killed_container_is_unready_until_it_is_back(&self) -> Result<()> {
        let name = self
            .cluster
            .plane
            .kubectl(&["get", "pods", "--output=name"])?;
        let name = name.trim().trim_start_matches("pod/");
        let before = self.endpoints()?;
        self.cluster.kill_pod("default", name)?;
        wait_until("no endpoint", || Ok(self.endpoints()?.is_empty()))?;
        wait_until("the endpoint again", || Ok(self.endpoints()? == before))?;
        let jsonpath = "--output=jsonpath={.status.containerStatuses[0].restartCount}";
        assert_eq!(
            self.cluster
                .plane
                .kubectl(&["get", "pod", name, jsonpath])?,
            "1"
        );
        Ok(())
    }
}

const ASKING: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: asking, namespace: default}
spec:
  restartPolicy: Never
  containers:
  - name: asking
    image: sluice.test/origin
    command:
    - sh
    - -c
    - |
      at=/var/run/secrets/kubernetes.io/serviceaccount
      url=https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT
      grep CapBnd /proc/self/status
      touch /file || echo read-only root
      echo 1 > /proc/sys/net/ipv4/ip_forward || echo read-only sysctl
      curl --silent --show-error --fail --retry 20 --retry-connrefused --retry-delay 1 --max-time 30 --cacert $at/ca.crt --header \"Authorization: Bearer $(cat $at/token)\" $url/version || exit 1
    securityContext:
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
";

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: sluice.test/origin
        args: [--name, $(POD), --listen, '[::]:8080']
        env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        ports: [{name: http, containerPort: 8080}]
        lifecycle: {preStop: {sleep: {seconds: 2}}}
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ipFamilyPolicy: PreferDualStack, ports: [{name: http, port: 80, targetPort: http}]}
";
