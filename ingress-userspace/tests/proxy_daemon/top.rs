//! `sluice top` of a daemon that runs, in a pseudo-terminal and without one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::daemon::{Daemon, Place, origin, wait_for};

/// A pseudo-terminal that `sluice top` runs in.
struct Terminal {
    ours: File,
    theirs: OwnedFd,
    process: Child,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(place: &Place, table: &str) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(path, flags, Mode::empty()).unwrap();
        resize(&theirs, 80);
        let run_dir = place.directory.path().join("a");
        let stdio = || Stdio::from(theirs.try_clone().unwrap());
        // The terminal has to be the process's own, for the signal of a new size.
        let process = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_sluice"), "top", table])
            .arg(format!("--run-dir={}", run_dir.display()))
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        let ours = File::from(ours);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut reader, all) = (ours.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                all.lock().unwrap().push_str(&text);
            }
        });
        Self {
            ours,
            theirs,
            process,
            shown,
        }
    }

    fn press(&mut self, keys: &str) {
        self.shown.lock().unwrap().clear();
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text on the screen, while requests go on.
    fn wait_for(&self, text: &str, daemon: &Daemon) {
        wait_for(text, || {
            daemon.get(daemon.http, "/");
            self.shown.lock().unwrap().contains(text)
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn resize(terminal: &OwnedFd, columns: u16) {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal.as_fd(), size).unwrap();
}

#[test]
fn keys_sort_and_filter_and_the_terminal_is_put_back() {
    let place = Place::new(origin());
    let daemon = place.start("a", &[]);
    let mut terminal = Terminal::start(&place, "hosts");
    terminal.wait_for("one.test", &daemon);
    terminal.wait_for("REQv", &daemon);
    terminal.press(">");
    terminal.wait_for("4XXv", &daemon);
    terminal.press("r");
    terminal.wait_for("4XX^", &daemon);
    terminal.press("/zzz\r");
    terminal.wait_for("0 shown with `zzz`", &daemon);
    terminal.press("\u{1b}");
    terminal.wait_for("one.test", &daemon);
    terminal.shown.lock().unwrap().clear();
    resize(&terminal.theirs, 30);
    terminal.wait_for("shown  < > sort  r reverse  \u{1b}", &daemon);
    terminal.press("q");
    assert_eq!(terminal.process.wait().unwrap().code(), Some(0));
    wait_for("the other screen to be left", || {
        let shown = terminal.shown.lock().unwrap();
        shown.ends_with("\u{1b}[?25h\u{1b}[?1049l")
    });
    let modes = tcgetattr(&terminal.theirs).unwrap().local_modes;
    assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
}

#[test]
fn devices_are_those_of_the_datapath() {
    let place = Place::new(origin());
    let _daemon = place.start("a", &[]);
    let output = place.sluice(&["top", "devices"]);
    let text = String::from_utf8(output.stdout).unwrap();
    // Ordinary sockets serve: the datapath is attached to none.
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("DEVICE"), "{text}");
}

#[test]
fn a_table_is_printed_where_there_is_no_terminal() {
    let endpoint = origin();
    let place = Place::new(endpoint);
    let daemon = place.start("a", &[]);
    for (table, heading, name) in [
        ("hosts", "HOST", "one.test".to_owned()),
        ("backends", "BACKEND", "web/cart:80".to_owned()),
        ("endpoints", "ENDPOINT", format!("{endpoint} web/cart")),
        ("clients", "CLIENT", "127.0.0.1".to_owned()),
    ] {
        wait_for(table, || {
            thread::scope(|scope| {
                let top = scope.spawn(|| place.sluice(&["top", table]));
                while !top.is_finished() {
                    daemon.get(daemon.http, "/");
                }
                let output = top.join().unwrap();
                assert_eq!(output.status.code(), Some(0), "{output:?}");
                let text = String::from_utf8(output.stdout).unwrap();
                assert!(text.starts_with(heading), "{text}");
                text.contains(&name)
            })
        });
    }
}
