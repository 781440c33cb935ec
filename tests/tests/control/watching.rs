//! Whose objects count, and what becomes of the daemon while the API server is away.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ingress_tests::cluster::beside::Daemon;
use ingress_tests::rig::wait_until;

use crate::{CLASS, ingress, plane, sluice};

#[test]
#[ignore = "needs root: network namespaces"]
fn namespaces_count_by_name_or_by_label() -> Result<()> {
    let plane = plane("ns")?;
    let mut objects = CLASS.to_owned();
    for (namespace, tier) in [("one", "edge"), ("two", "edge"), ("three", "back")] {
        let metadata = format!("{{name: {namespace}, labels: {{tier: {tier}}}}}");
        objects.extend([
            "---\napiVersion: v1\nkind: Namespace\nmetadata: ",
            &metadata,
            "\n",
        ]);
        objects += &ingress(namespace, "web", &format!("{namespace}.test"));
    }
    plane.apply(&objects)?;
    let quiet = "--update-status=false";
    for (flag, expected) in [
        ("--watch-namespace=one,three", [true, false, true]),
        ("--watch-namespace-selector=tier=edge", [true, true, false]),
        ("--ingress-class=sluice", [true, true, true]),
        (
            "--controller-class=example.com/other",
            [false, false, false],
        ),
    ] {
        let daemon = Daemon::start(&plane, &sluice()?, "selected", &[flag, quiet])?;
        for (host, is_expected) in ["one.test", "two.test", "three.test"]
            .into_iter()
            .zip(expected)
        {
            assert_eq!(daemon.is_served(host, "/")?, is_expected, "{flag} {host}");
        }
        daemon.stop()?;
    }
    let selector = ["--watch-namespace-selector=tier=edge", quiet];
    let daemon = Daemon::start(&plane, &sluice()?, "relabelled", &selector)?;
    plane.kubectl(&["label", "--overwrite", "namespace", "three", "tier=edge"])?;
    wait_until("the relabelled namespace to count", || {
        daemon.is_served("three.test", "/")
    })
}

#[test]
#[ignore = "needs root: network namespaces"]
fn the_class_of_ingress_nginx_and_no_class_can_be_claimed() -> Result<()> {
    let plane = plane("class")?;
    let nginx = CLASS
        .replace("name: sluice", "name: nginx")
        .replace("sluice.dev/ingress-controller", "k8s.io/ingress-nginx");
    let of_nginx = ingress("default", "old", "old.test").replace("Name: sluice", "Name: nginx");
    let of_nobody =
        ingress("default", "bare", "bare.test").replace("  ingressClassName: sluice\n", "");
    plane.apply(&format!("{nginx}{of_nginx}{of_nobody}"))?;
    let claim = "--controller-class=k8s.io/ingress-nginx";
    for (flags, expected) in [
        (&["--update-status=false"][..], [false, false]),
        (&["--update-status=false", claim], [true, false]),
        (
            &[
                "--update-status=false",
                claim,
                "--watch-ingress-without-class",
            ],
            [true, true],
        ),
    ] {
        let daemon = Daemon::start(&plane, &sluice()?, "claims", flags)?;
        let served = [
            daemon.is_served("old.test", "/")?,
            daemon.is_served("bare.test", "/")?,
        ];
        assert_eq!(served, expected, "{flags:?}");
        daemon.stop()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces"]
fn an_api_server_that_goes_takes_nothing_along_and_is_followed_when_it_is_back() -> Result<()> {
    let plane = plane("away")?;
    plane.apply(&format!("{CLASS}{}", ingress("default", "web", "web.test")))?;
    let daemon = Daemon::start(&plane, &sluice()?, "away", &["--update-status=false"])?;
    ensure!(daemon.is_served("web.test", "/")?);
    plane.signal_api("STOP")?;
    ensure!(daemon.is_served("web.test", "/")?, "it hangs");
    plane.signal_api("CONT")?;
    plane.stop_api();
    let complains = || {
        Ok(daemon.status()?["problems"]
            .to_string()
            .contains("API server"))
    };
    wait_until("the daemon to notice", complains)?;
    ensure!(daemon.is_served("web.test", "/")?, "it is gone");
    plane.start_api()?;
    plane.apply(&ingress("default", "new", "new.test"))?;
    wait_until("news", || daemon.is_served("new.test", "/"))?;
    ensure!(daemon.is_served("web.test", "/")?);
    wait_until("no more complaint", || Ok(!complains()?))
}

/// For ten minutes with `SLUICE_OUTAGE_SECONDS=600`.
#[test]
#[ignore = "needs root: network namespaces"]
fn an_api_server_that_answers_with_errors_takes_nothing_along() -> Result<()> {
    let outage: u64 = match std::env::var("SLUICE_OUTAGE_SECONDS") {
        Ok(seconds) => seconds.parse()?,
        Err(_) => 10,
    };
    let plane = plane("errors")?;
    let web = ingress("default", "web", "web.test");
    plane.apply(&format!("{CLASS}{web}{SLICE}"))?;
    let daemon = Daemon::start(&plane, &sluice()?, "errors", &["--update-status=false"])?;
    let endpoints = || Ok::<_, anyhow::Error>(daemon.status()?["config"]["endpoints"].clone());
    wait_until("the endpoint", || Ok(endpoints()? == 1))?;
    let brownout = plane.brown_out()?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(outage) {
        ensure!(daemon.is_served("web.test", "/")?);
        ensure!(endpoints()? == 1, "the endpoint is gone");
        ensure!(daemon.readiness()? == Some(200), "it is not ready any more");
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_until("the daemon to say so", || {
        let problems = daemon.status()?["problems"].to_string();
        Ok(problems.contains("leader changed"))
    })?;
    let answered = brownout.answered();
    wait_until("every watch to try on", || {
        Ok(brownout.answered() >= answered + 5)
    })?;
    drop(brownout);
    plane.start_api()?;
    plane.apply(&ingress("default", "new", "new.test"))?;
    wait_until("news", || daemon.is_served("new.test", "/")).with_context(|| daemon.log())?;
    ensure!(daemon.is_served("web.test", "/")?);
    ensure!(endpoints()? == 1, "the endpoint did not outlive the outage");
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_daemon_that_starts_without_an_api_server_answers_nothing() -> Result<()> {
    let plane = plane("late")?;
    plane.apply(&format!("{CLASS}{}", ingress("default", "web", "web.test")))?;
    plane.stop_api();
    let daemon = Daemon::start_unready(&plane, &sluice()?, "late", &["--update-status=false"])?;
    wait_until("its readiness probe to answer", || {
        Ok(daemon.readiness()? == Some(503))
    })?;
    ensure!(
        daemon.is_served("web.test", "/").is_err(),
        "nobody listens yet"
    );
    plane.start_api()?;
    wait_until("it to serve", || Ok(daemon.readiness()? == Some(200)))?;
    ensure!(daemon.is_served("web.test", "/")?);
    Ok(())
}

/// An endpoint of the Service `web`.
const SLICE: &str = "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-a, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.99.0.1]}]
";
