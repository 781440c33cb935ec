//! Tries the shortcut before pods depend on it: whether bytes come whole and in order in both
//! directions, whether a slow reader makes its sender wait, and whether ends and resets look as on TCP.
//!
//! Both sockets are in the ingress netns, over loopback. Nothing waits for longer than [`PATIENCE`].

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;
use std::time::{Duration, Instant};

use ingress_common::shortcut::{ENROLLED_SYN_RETRIES, SHORTCUT_PRIORITY};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use socket2::SockRef;
use thiserror::Error;

/// What the shortcut does otherwise than TCP.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("failed to {attempt}")]
    Io {
        attempt: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the kernel enrolled no connection")]
    NotEnrolled,
    #[error("bytes went astray ({0})")]
    Astray(&'static str),
    #[error("a slow reader does not make its sender wait")]
    NoBackpressure,
    #[error("a reset looks like an end")]
    NoReset,
    #[error(
        "a read that waits for bytes ends without any (--shortcut on if pods read when poll(2) says so)"
    )]
    EndsWaits,
    #[error(
        "this kernel hides redirected bytes from splice(2): a pod that reads requests so would wait \
         for ever (--shortcut on if no pod does)"
    )]
    HiddenFromSplice,
}

/// A listener for the test, in the netns of the calling thread.
pub(super) fn listen() -> Result<TcpListener, Failure> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(io("listen on loopback"))
}

/// What is asked of the shortcut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// That no program of a pod can tell, however it reads.
    AnyReader,
    /// That a program of a pod can't tell that reads by `read(2)` and takes an `EAGAIN` for one.
    PollingReader,
}

/// Runs all of it.
pub(super) fn run(listener: &TcpListener, demand: Demand) -> Result<(), Failure> {
    if demand == Demand::AnyReader {
        spliced(&Pair::open(listener)?)?;
    }
    let were_waits_ended = both_ways(&Pair::open(listener)?)?;
    if demand == Demand::AnyReader && were_waits_ended {
        return Err(Failure::EndsWaits);
    }
    half_closed(Pair::open(listener)?)?;
    let Pair { proxy, pod } = Pair::open(listener)?;
    stalled(&pod, &proxy)?;
    let Pair { proxy, pod } = Pair::open(listener)?;
    stalled(&proxy, &pod)?;
    reset(Pair::open(listener)?)
}

/// The ends of an enrolled connection.
struct Pair {
    proxy: TcpStream,
    pod: TcpStream,
}

impl Pair {
    fn open(listener: &TcpListener) -> Result<Self, Failure> {
        let address = listener.local_addr().map_err(io("read an address"))?;
        let proxy = TcpStream::connect(address).map_err(io("connect over loopback"))?;
        let (pod, _) = listener.accept().map_err(io("accept over loopback"))?;
        for stream in [&proxy, &pod] {
            stream
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
                .map_err(io("limit a wait"))?;
        }
        if !is_enrolled(&proxy) {
            return Err(Failure::NotEnrolled);
        }
        set_priority(&proxy)?;
        Ok(Self { proxy, pod })
    }
}

/// Megabytes in both directions at once; tells whether any read ended without bytes.
fn both_ways(pair: &Pair) -> Result<bool, Failure> {
    let ends = [(&pair.proxy, &pair.pod), (&pair.pod, &pair.proxy)];
    thread::scope(|scope| {
        let readers = ends.map(|(sender, receiver)| {
            scope.spawn(move || send(sender, BYTES));
            scope.spawn(move || expect(receiver, BYTES))
        });
        let mut were_waits_ended = false;
        for reader in readers {
            let read = reader.join().map_err(|_| Failure::Astray("a panic"))?;
            were_waits_ended |= read?;
        }
        Ok(were_waits_ended)
    })
}

/// An end that has ended gets what the other sends, and then its end.
fn half_closed(Pair { proxy, pod }: Pair) -> Result<(), Failure> {
    send(&proxy, SOME_BYTES)?;
    proxy
        .shutdown(Shutdown::Write)
        .map_err(io("end a stream"))?;
    expect(&pod, SOME_BYTES)?;
    expect_end(&pod)?;
    send(&pod, SOME_BYTES)?;
    drop(pod);
    expect(&proxy, SOME_BYTES)?;
    expect_end(&proxy)
}

/// A sender whose receiver reads nothing is made to wait, and then all of it arrives.
fn stalled(sender: &TcpStream, receiver: &TcpStream) -> Result<(), Failure> {
    sender.set_nonblocking(true).map_err(io("not wait"))?;
    let mut sent = 0;
    let piece = pattern(0, PIECE_BYTES);
    while sent < STALLED_BYTES_MAX {
        match (&*sender).write(&piece[sent % PERIOD..][..PIECE_BYTES - PERIOD]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(source) => return Err(io("write")(source)),
        }
    }
    if sent >= STALLED_BYTES_MAX {
        return Err(Failure::NoBackpressure);
    }
    expect(receiver, sent)?;
    sender.set_nonblocking(false).map_err(io("wait"))?;
    // And after that it goes on.
    send(sender, SOME_BYTES)?;
    expect(receiver, SOME_BYTES).map(drop)
}

/// What was sent before a reset is read before it.
fn reset(Pair { proxy, pod }: Pair) -> Result<(), Failure> {
    send(&pod, SOME_BYTES)?;
    let lingering = SockRef::from(&pod).set_linger(Some(Duration::ZERO));
    lingering.map_err(io("prepare a reset"))?;
    drop(pod);
    expect(&proxy, SOME_BYTES)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match (&proxy).read(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) if is_ended_wait(&error) && Instant::now() < deadline => {}
            _ => return Err(Failure::NoReset),
        }
    }
}

/// A pod that reads by `splice(2)` sees what was redirected.
fn spliced(pair: &Pair) -> Result<(), Failure> {
    send(&pair.proxy, 1)?;
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (_read, write) = pipe_with(flags).map_err(|error| io("make a pipe")(error.into()))?;
    // Bytes that take the shortcut are there when the send has returned.
    match splice(
        pair.pod.as_fd(),
        None,
        &write,
        None,
        1,
        SpliceFlags::NONBLOCK,
    ) {
        Ok(1) => Ok(()),
        _ => Err(Failure::HiddenFromSplice),
    }
}

fn send(mut stream: &TcpStream, count: usize) -> Result<(), Failure> {
    let bytes = pattern(0, PIECE_BYTES);
    let mut sent = 0;
    while sent < count {
        let piece = &bytes[sent % PERIOD..][..(count - sent).min(PIECE_BYTES - PERIOD)];
        stream.write_all(piece).map_err(io("write"))?;
        sent += piece.len();
    }
    Ok(())
}

/// Reads so many bytes and compares them; tells whether any read ended without bytes.
fn expect(mut stream: &TcpStream, count: usize) -> Result<bool, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut were_waits_ended = false;
    let bytes = pattern(0, PIECE_BYTES);
    let mut buffer = vec![0; PIECE_BYTES - PERIOD];
    let mut read = 0;
    while read < count {
        let room = (count - read).min(buffer.len());
        let piece = match stream.read(&mut buffer[..room]) {
            Err(error) if is_ended_wait(&error) && Instant::now() < deadline => {
                were_waits_ended = true;
                continue;
            }
            outcome => outcome.map_err(io("read"))?,
        };
        if piece == 0 {
            return Err(Failure::Astray("an end before it was due"));
        }
        if buffer[..piece] != bytes[read % PERIOD..][..piece] {
            return Err(Failure::Astray("other bytes than were sent"));
        }
        read += piece;
    }
    Ok(were_waits_ended)
}

/// A wait of the kernel for redirected bytes ends with whatever wakes the socket's waiters, such as
/// room to write (`tcp_bpf_recvmsg`), and then says that there is nothing.
fn is_ended_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn expect_end(mut stream: &TcpStream) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match stream.read(&mut [0; 1]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(Failure::Astray("more bytes than were sent")),
            Err(error) if is_ended_wait(&error) && Instant::now() < deadline => {}
            Err(source) => return Err(io("read an end")(source)),
        }
    }
}

/// Bytes that repeat after a prime number, so that a piece in another place is another piece.
fn pattern(from: usize, count: usize) -> Vec<u8> {
    let byte = |at: usize| u8::try_from((at % PERIOD) % 241).unwrap_or_default();
    (from..from + count).map(byte).collect()
}

fn is_enrolled(stream: &TcpStream) -> bool {
    let mut retries = MaybeUninit::<libc::c_int>::zeroed();
    let mut length = INT_BYTES;
    // SAFETY: the descriptor is open, and the kernel writes an int of the size that is told.
    let retries = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SYNCNT,
            retries.as_mut_ptr().cast(),
            &raw mut length,
        );
        retries.assume_init()
    };
    retries == ENROLLED_SYN_RETRIES
}

fn set_priority(stream: &TcpStream) -> Result<(), Failure> {
    let priority = SHORTCUT_PRIORITY;
    // SAFETY: the descriptor is open, and the value is an int of the size that is told.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PRIORITY,
            (&raw const priority).cast(),
            INT_BYTES,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io("set a priority")(io::Error::last_os_error()))
    }
}

fn io(attempt: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::Io { attempt, source }
}

const BYTES: usize = 4 << 20;
const SOME_BYTES: usize = 40_000;
/// More than Linux lets a sender and a receiver keep of one connection.
const STALLED_BYTES_MAX: usize = 64 << 20;
const PIECE_BYTES: usize = 96 * 1024;
const PERIOD: usize = 4093;
const PATIENCE: Duration = Duration::from_secs(2);
/// Size of a C `int`.
const INT_BYTES: libc::socklen_t = 4;
