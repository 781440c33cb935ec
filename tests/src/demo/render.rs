//! A page that a person enjoys reading.

use std::fmt::Write as _;

use super::{Demo, RequestLine};

/// Renders the demo; with `color`, for a terminal.
pub fn render(demo: &Demo, color: bool) -> String {
    let paint = Paint { color };
    let mut out = String::new();
    let _ = writeln!(
        out,
        "\n  {}\n",
        paint.bold("client → proxy on the edge node → pod")
    );
    let heads = [
        "REQUEST",
        "STATUS",
        "HTTP",
        "POD",
        "CLIENT THAT THE POD SAW",
        "DATAPATH",
    ];
    let rows: Vec<[String; 6]> = demo.requests.iter().map(cells).collect();
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([heads[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let _ = writeln!(
        out,
        "    {}",
        paint.dim(&line(&heads.map(str::to_owned), &widths))
    );
    for (row, request) in rows.iter().zip(&demo.requests) {
        let mark = if request.ok {
            paint.green("✓")
        } else {
            paint.red("✗")
        };
        let _ = writeln!(out, "  {mark} {}", line(row, &widths));
    }
    proof(&mut out, demo, &paint);
    for fault in &demo.faults {
        let _ = writeln!(out, "  {} {fault}", paint.red("✗"));
    }
    let verdict = if demo.ok {
        paint.green("every line is as it should be")
    } else {
        paint.red("not as it should be")
    };
    let _ = writeln!(out, "\n  {verdict}\n");
    out
}

fn proof(out: &mut String, demo: &Demo, paint: &Paint) {
    let count = demo.conntrack_requests;
    let rows = [
        [
            String::new(),
            "NodePort, NAT, proxy pod".into(),
            "Sluice".to_owned(),
        ],
        [
            format!("conntrack entries, {count} requests"),
            demo.conntrack.nodeport.to_string(),
            demo.conntrack.sluice.to_string(),
        ],
        [
            "client address that the pod saw".into(),
            demo.source_ip.nodeport.clone(),
            demo.source_ip.sluice.clone(),
        ],
    ];
    out.push('\n');
    for [what, nodeport, sluice] in &rows {
        let _ = writeln!(out, "  {what:<34}{nodeport:<28}{}", paint.bold(sluice));
    }
    let _ = writeln!(out, "\n  {}", paint.dim("packets by eBPF program"));
    for (program, reasons) in &demo.programs {
        let total: u64 = reasons.values().sum();
        let detail: Vec<String> = reasons
            .iter()
            .map(|(reason, packets)| format!("{reason} {packets}"))
            .collect();
        let _ = writeln!(
            out,
            "  {program:<12}{total:>8}   {}",
            paint.dim(&detail.join(", "))
        );
    }
}

fn cells(request: &RequestLine) -> [String; 6] {
    [
        request.url.clone(),
        request.status.to_string(),
        request.http.clone(),
        request.pod.clone().unwrap_or_else(|| "-".into()),
        request.client_ip.clone().unwrap_or_else(|| "-".into()),
        request.datapath.clone(),
    ]
}

fn line(cells: &[String; 6], widths: &[usize]) -> String {
    let padded = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:<width$}"));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

struct Paint {
    color: bool,
}

impl Paint {
    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
