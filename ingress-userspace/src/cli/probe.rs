//! `sluice probe`: what this machine offers to the netns datapath.

use crate::datapath::Report;
use crate::settings::Probe;

/// Looks, and gives the screen with whether the netns datapath can work.
pub fn run(flags: &Probe) -> (String, bool) {
    let report = Report::of_this_machine(&flags.bpffs, flags.upstream_ports);
    match report.obstacle() {
        None => (
            format!("{report}\nThe netns datapath can work here.\n"),
            true,
        ),
        Some(finding) => {
            let subject = finding.subject;
            let text = format!(
                "{report}\nThe netns datapath can't work here ({subject}); `--datapath host` can.\n"
            );
            (text, false)
        }
    }
}
