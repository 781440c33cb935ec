//! Messages with descriptors over a Unix stream socket: eight bytes of header (the length of the
//! message and the number of descriptors, both little-endian), then the message in JSON. Descriptors
//! travel beside the header (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// Two connected ends.
    pub(super) fn pair() -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), theirs))
    }

    /// Speaks over a connected socket.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Fails calls that take longer than this.
    pub(super) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(timeout))?;
        self.0.set_write_timeout(Some(timeout))
    }

    /// Another handle of the same end.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Ends the conversation for both.
    pub(super) fn shut_down(&self) {
        // Fails only where the other end has gone.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    /// Sends a message and copies of descriptors.
    ///
    /// # Errors
    ///
    /// An I/O error if the other end has gone or does not read, or if there are more than
    /// [`DESCRIPTORS_MAX`] descriptors.
    pub(super) fn send(
        &mut self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let body = serde_json::to_vec(message)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let count = u32::try_from(descriptors.len()).map_err(io::Error::other)?;
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..].copy_from_slice(&count.to_le_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("no room for the descriptors"));
        }
        let sent = retry_on_intr(|| {
            let header = [IoSlice::new(&header)];
            sendmsg(&self.0, &header, &mut control, SendFlags::NOSIGNAL)
        })?;
        self.0.write_all(&header[sent..])?;
        self.0.write_all(&body)
    }

    /// Waits for the next message and its descriptors; `None` when the other end has gone.
    ///
    /// # Errors
    ///
    /// An I/O error if the message is cut off, too long or malformed, if it does not come in time, or
    /// if this process can have no more descriptors.
    pub(super) fn receive<M: DeserializeOwned>(&mut self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut header = [0; HEADER_BYTES];
        let mut descriptors = Vec::new();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        // A call with a time limit is never restarted by the kernel after a signal (signal(7)).
        let received = retry_on_intr(|| {
            let mut header = [IoSliceMut::new(&mut header)];
            recvmsg(&self.0, &mut header, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        self.0.read_exact(&mut header[received.bytes..])?;
        let number = |bytes: &[u8]| {
            let bytes = bytes.iter().rev();
            bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
        };
        let (length, count) = (number(&header[..4]), number(&header[4..]));
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::other("the message is too long"));
        }
        if descriptors.len() != count {
            return Err(io::Error::other("the limit of file descriptors is reached"));
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Some((serde_json::from_slice(&body)?, descriptors)))
    }
}

/// Descriptors beside one message; there are at most 64 workers, and a socket for each.
pub(super) const DESCRIPTORS_MAX: usize = 64;
/// Enough for a million addresses.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const HEADER_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;
    use std::thread;

    use super::*;

    fn ends() -> (Channel, Channel) {
        let (one, other) = Channel::pair().unwrap();
        (one, Channel::new(other))
    }

    #[test]
    fn messages_travel_with_their_descriptors() {
        let (mut one, mut other) = ends();
        let directory = tempfile::tempdir().unwrap();
        let file = File::create_new(directory.path().join("file")).unwrap();
        let sent = vec![file.as_fd(); DESCRIPTORS_MAX];
        one.send(&"first", &sent).unwrap();
        one.send(&"second", &[]).unwrap();
        let (message, files) = other.receive::<String>().unwrap().unwrap();
        assert_eq!((&*message, files.len()), ("first", DESCRIPTORS_MAX));
        File::from(files.into_iter().next_back().unwrap())
            .write_all(b"written")
            .unwrap();
        let written = std::fs::read(directory.path().join("file")).unwrap();
        assert_eq!(written, b"written");
        let (message, files) = other.receive::<String>().unwrap().unwrap();
        assert_eq!((&*message, files.len()), ("second", 0));
        drop(one);
        assert!(other.receive::<String>().unwrap().is_none());
    }

    #[test]
    fn a_message_larger_than_the_socket_buffer_arrives() {
        let (mut one, mut other) = ends();
        let text = "x".repeat(4 << 20);
        let expected = text.clone();
        let sender = thread::spawn(move || one.send(&text, &[]));
        let (message, _) = other.receive::<String>().unwrap().unwrap();
        assert!(message == expected);
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn malformed_messages_are_errors() {
        for bytes in [
            &[1, 0, 0][..],
            &[1, 0, 0, 0, 0, 0, 0, 0, b'{'],
            &[255, 255, 255, 255, 0, 0, 0, 0],
            &[1, 0, 0, 0, 1, 0, 0, 0, b'1'],
        ] {
            let (mut one, mut other) = ends();
            one.0.write_all(bytes).unwrap();
            drop(one);
            assert!(other.receive::<String>().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_silent_peer_is_an_error() {
        let (one, mut other) = ends();
        other.set_timeout(Duration::from_millis(1)).unwrap();
        assert!(other.receive::<String>().is_err());
        drop(one);
    }
}
