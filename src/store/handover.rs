//! Handing a ledger from one process to the next, over a private Unix socket in the folder of the store (spec 12.3).
//!
//! The owner listens. A process that is to replace it connects and says its number; the owner writes its last changes, lets
//! the file go and answers with its own number. From then on the connection carries the old process's operations to the new
//! one, a line of JSON each way. When it breaks, the old process is gone, and what it had open is recovered.

use super::teller::{Answer, Operation, Teller};
use serde::{Deserialize, Serialize};
use std::fs::{Permissions, remove_file, set_permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The socket's name in the folder of the store.
const SOCKET: &str = "ledger.sock";
/// The longest path of a Unix socket, on Linux, its end included.
const PATH_MAX: usize = 108;
/// How long one line may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest line, in bytes.
const LINE_MAX: u64 = 4_096;

/// Who is at the other end.
#[derive(Debug, Serialize, Deserialize)]
struct Greeting {
    process: u64,
}

/// A connection between two processes.
#[derive(Debug)]
pub(super) struct Line {
    reader: BufReader<UnixStream>,
    own: u64,
    peer: u64,
    /// A question went unanswered, so what comes next would answer another.
    is_broken: bool,
}

/// A ledger that the process before this one has let go.
#[derive(Debug)]
pub struct Taken {
    line: Line,
}

impl Line {
    fn new(stream: UnixStream, own: u64) -> io::Result<Self> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { reader: BufReader::new(stream), own, peer: 0, is_broken: false })
    }

    /// The number of the process at the other end.
    pub(super) fn peer(&self) -> u64 {
        self.peer
    }

    /// Says that the ledger is free.
    pub(super) fn confirm(mut self) -> io::Result<Self> {
        self.say(&Greeting { process: self.own })?;
        Ok(self)
    }

    /// Asks the owner of the ledger.
    pub(super) fn ask(&mut self, operation: &Operation) -> io::Result<Answer> {
        if self.is_broken {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let said = self.say(operation).and_then(|()| self.hear());
        let answer = said.and_then(|answer| answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        self.is_broken = answer.is_err();
        answer
    }

    /// Whether nobody is at the other end, or nobody that can be asked.
    pub(super) fn is_broken(&mut self) -> bool {
        let stream = self.reader.get_ref();
        let looked = stream.set_nonblocking(true).and_then(|()| Read::read(&mut &*stream, &mut [0]));
        let is_there = matches!(&looked, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        self.is_broken |= !is_there || stream.set_nonblocking(false).is_err();
        self.is_broken
    }

    fn say(&mut self, what: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line)
    }

    /// The next line; `None` at the end.
    fn hear<T: for<'a> Deserialize<'a>>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        Read::by_ref(&mut self.reader).take(LINE_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&line).map(Some)?)
    }
}

/// Offers the ledger to the process that will replace this one.
///
/// # Errors
///
/// The socket cannot be made; then there is no upgrade without a stop.
pub fn offer(teller: &Arc<Teller>, folder: &Path) -> io::Result<()> {
    let path = socket(folder)?;
    let _ = remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    set_permissions(&path, Permissions::from_mode(0o600))?;
    let teller = Arc::clone(teller);
    let serve = move || {
        for stream in listener.incoming().flatten() {
            if let Err(e) = hand_over(&teller, stream) {
                log::error!("the ledger was not handed over: {e}");
            }
        }
    };
    std::thread::Builder::new().name("ledger-offer".into()).spawn(serve).map(drop)
}

fn hand_over(teller: &Teller, stream: UnixStream) -> io::Result<()> {
    let mut line = Line::new(stream, teller.bank().process())?;
    let Some(Greeting { process }) = line.hear()? else { return Ok(()) };
    line.peer = process;
    teller.hand_over(line);
    Ok(())
}

/// Takes the ledger over from the process that owns it; `None` if there is none.
///
/// # Errors
///
/// The owner does not let it go.
pub fn take(folder: &Path, process: u64) -> io::Result<Option<Taken>> {
    let Ok(stream) = UnixStream::connect(socket(folder)?) else { return Ok(None) };
    let mut line = Line::new(stream, process)?;
    line.say(&Greeting { process })?;
    let Some(Greeting { process: owner }) = line.hear()? else {
        return Err(io::Error::other(
            "the process that owns the ledger does not let it go; its log says why",
        ));
    };
    line.peer = owner;
    Ok(Some(Taken { line }))
}

impl Taken {
    /// The process that let it go.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.line.peer
    }

    /// Carries out what that process still has to do, in a thread, until it ends; then recovers what it left.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn serve(self, teller: &Arc<Teller>) -> io::Result<()> {
        let teller = Arc::clone(teller);
        let serve = move || {
            let Self { mut line } = self;
            // Nothing may come for as long as a stream takes.
            let _ = line.reader.get_ref().set_read_timeout(None);
            while let Ok(Some(operation)) = line.hear::<Operation>() {
                if line.say(&teller.serve(operation)).is_err() {
                    break;
                }
            }
            let recovery = teller.bank().with(|ledger| ledger.recover(|process| process == line.peer));
            log::info!(
                "process {} has ended: {} of its requests settled, {} released",
                line.peer,
                recovery.settled,
                recovery.released
            );
        };
        std::thread::Builder::new().name("ledger-taken".into()).spawn(serve).map(drop)
    }
}

fn socket(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join(SOCKET);
    if path.as_os_str().len() >= PATH_MAX {
        return Err(io::Error::other("the path of the store is too long for a socket"));
    }
    Ok(path)
}
