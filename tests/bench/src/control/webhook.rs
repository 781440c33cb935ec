//! Reviews of one Ingress beside 10,000 others, as the API server asks for them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rcgen::CertifiedKey;

use super::Suite;
use super::objects::Objects;

impl Suite<'_> {
    /// Times reviews over one connection, as the API server keeps it.
    pub(super) fn reviews(&mut self, objects: &Objects<'_>) -> Result<()> {
        let directory = self.plane.directory().join("webhook");
        fs::create_dir_all(&directory)?;
        let flags = flags(&directory)?;
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let _daemon = self.daemon_with("webhook", &flags)?;
        let review = directory.join("review.json");
        fs::write(&review, serde_json::to_vec(&objects.review())?)?;
        let output = self.plane.host().sh(&format!(
            "curl --silent --insecure --data @{} --write-out '%{{http_code}} %{{time_total}}\\n' \
             --output /dev/null 'https://{ADDRESS}/[1-{REVIEWS}]'",
            review.display()
        ))?;
        let mut times = Vec::new();
        for line in output.lines() {
            let (status, seconds) = line.split_once(' ').context("curl wrote no time")?;
            ensure!(status == "200", "the webhook answered {status}");
            times.push(seconds.parse::<f64>()? * 1000.0);
        }
        ensure!(times.len() == REVIEWS, "{} reviews", times.len());
        times.sort_by(f64::total_cmp);
        let tail = times[times.len() * 99 / 100];
        let workload = "review of an Ingress beside 10,000";
        self.row(workload, "answered, median", "ms", &times);
        self.row(workload, "answered, p99", "ms", &[tail]);
        Ok(())
    }
}

fn flags(directory: &Path) -> Result<[String; 4]> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    fs::write(&certificate, cert.pem())?;
    fs::write(&key, signing_key.serialize_pem())?;
    Ok([
        "--update-status=false".to_owned(),
        format!("--validating-webhook={ADDRESS}"),
        format!("--validating-webhook-certificate={}", certificate.display()),
        format!("--validating-webhook-key={}", key.display()),
    ])
}

const ADDRESS: &str = "127.0.0.1:9443";
const REVIEWS: usize = 2000;
