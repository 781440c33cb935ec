//! The terminal: another screen, keys one by one, and everything as before when it is dropped.

use std::io::{self, Read as _, Write as _};
use std::thread;

use anyhow::{Context as _, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// A terminal in our hands.
pub(super) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Takes keys as they are pressed, and shows another screen (xterm, "Alternate Screen Buffer").
    pub(super) fn open() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("failed to read the terminal's modes")?;
        let mut modes = before.clone();
        // Ctrl-C is a key, so that the terminal is always put back.
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Now, &modes)
            .context("failed to set the terminal's modes")?;
        let terminal = Self { before };
        put(ENTER)?;
        Ok(terminal)
    }

    /// Its columns and rows.
    #[expect(clippy::unused_self, reason = "an open terminal has a size")]
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            Ok(_) | Err(_) => (80, 24),
        }
    }

    /// Shows a text in place of the last one.
    #[expect(clippy::unused_self, reason = "an open terminal is written to")]
    pub(super) fn show(&self, text: &str) -> io::Result<()> {
        let lines: Vec<_> = text
            .lines()
            .map(|line| format!("{line}{CLEAR_LINE}"))
            .collect();
        put(&format!("{HOME}{}{CLEAR_REST}", lines.join("\r\n")))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = put(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Keys as they are pressed, by a thread that ends with the process or the terminal.
pub(super) fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (sender, keys) = mpsc::channel(16);
    thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(count @ 1..) if sender.blocking_send(buffer[..count].to_vec()).is_ok() => {}
                Ok(_) | Err(_) => return,
            }
        }
    });
    keys
}

fn put(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Control sequences (ECMA-48, and xterm's private modes): the other screen without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";
