//! What the kernel says about this process, under the names that ingress-nginx has for nginx.

use procfs::process::Process;
use procfs::{ProcResult, WithCurrentSystemInfo as _};
use prometheus::proto::MetricFamily;

use super::family::{LabelPairs, counter, float, gauge};

/// The families, or none where `/proc` cannot be read.
pub(crate) fn families(constant: &LabelPairs, threads: usize) -> Vec<MetricFamily> {
    let read = || -> ProcResult<Vec<MetricFamily>> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let io = process.io()?;
        let ticks = procfs::ticks_per_second();
        let cpu_seconds = float(stat.utime + stat.stime) / float(ticks);
        let started = float(procfs::boot_time_secs()?) + float(stat.starttime) / float(ticks);
        let resident = stat.rss_bytes().get();
        let one = |value| [(constant.clone(), value)];
        Ok(vec![
            counter(
                "nginx_ingress_controller_nginx_process_cpu_seconds_total",
                "CPU time of the proxy",
                one(cpu_seconds),
            ),
            gauge(
                "nginx_ingress_controller_nginx_process_num_procs",
                "Threads that serve requests",
                one(float(threads as u64)),
            ),
            gauge(
                "nginx_ingress_controller_nginx_process_oldest_start_time_seconds",
                "When the proxy started, in seconds since 1970",
                one(started),
            ),
            counter(
                "nginx_ingress_controller_nginx_process_read_bytes_total",
                "Bytes read",
                one(float(io.rchar)),
            ),
            counter(
                "nginx_ingress_controller_nginx_process_write_bytes_total",
                "Bytes written",
                one(float(io.wchar)),
            ),
            gauge(
                "nginx_ingress_controller_nginx_process_resident_memory_bytes",
                "Memory in use",
                one(float(resident)),
            ),
            gauge(
                "nginx_ingress_controller_nginx_process_virtual_memory_bytes",
                "Address space in use",
                one(float(stat.vsize)),
            ),
        ])
    };
    read().unwrap_or_else(|error| {
        tracing::debug!(%error, "no process metrics");
        Vec::new()
    })
}
