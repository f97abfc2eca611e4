//! One process takes the place of another (spec 12.3).
//!
//! A process that is to take over (`--upgrade`) reports at a private Unix socket in the folder of the store, and keeps the
//! connection: its end is the death of whoever is at the other side. The running process hands over when it is told to, and
//! lets go only after the new one has said that it serves:
//!
//! ```text
//! new  connects                      old  `welcome`, or why not
//! old  its listening sockets, over the socket of the framework
//! new  opens the ledger, begins to serve, `ready`
//! old  names the new one to the service manager, `go`, drains
//! ```
//!
//! Whatever goes wrong before `go` leaves the old process as it was: its listeners were copied, and the ledger comes back.
//!
//! A process that this one starts itself must not be its child when it becomes the main process: systemd does not see the end of
//! somebody else's child, and kills it without waiting when the unit stops. So a shell stands between, and goes first.

use super::listener::Listeners;
use crate::store::{Teller, handover};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgid};
use sd_notify::NotifyState;
use std::ffi::OsString;
use std::fs::{Permissions, remove_file, set_permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Where listeners are handed over, in the folder of the store.
pub(super) const LISTENERS_SOCKET: &str = "listeners.sock";
/// Where a process reports that is to take over, in the same place.
const SOCKET: &str = "upgrade.sock";
/// How long a new process waits for the old one, and the other way round: a large ledger takes its time to open.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long the listeners may take to open.
const OPENING_LIMIT: Duration = Duration::from_secs(5);
/// How long a running process may take to answer a report.
const WELCOME_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The longest line, in bytes.
const LINE_MAX: u64 = 200;

/// What the shell does: starts a program with its arguments, and ends as it does.
const LAUNCH: &str = "\"$0\" \"$@\" & wait \"$!\"";

const WELCOME: &str = "welcome\n";
const READY: &str = "ready\n";
const GO: &str = "go\n";

/// How this process takes the place of another, and gives its own away.
pub struct Succession {
    folder: PathBuf,
    predecessor: Option<Arc<Predecessor>>,
    listeners: Arc<Listeners>,
    teller: Arc<Teller>,
    /// Keeps the connection to the process that took over until the end of this one, which is what it tells.
    successor: Mutex<Option<Successor>>,
    failed: AtomicBool,
}

/// The process before this one.
pub(super) struct Predecessor(BlockingStream);

/// A process that is to take over.
struct Successor {
    stream: UnixStream,
    /// If this process started it.
    started: Option<Started>,
}

/// A process that this one started, with the shell between them; it is killed where it does not take over.
struct Started {
    shell: Child,
    /// That of the shell, and of all that it started.
    group: Pid,
    has_taken_over: bool,
}

/// Where processes report that are to take over, and the one that did.
pub(super) struct Waiting {
    listener: Option<UnixListener>,
    predecessor: Option<Arc<Predecessor>>,
    reported: Option<UnixStream>,
}

/// Tells the service manager; without one that listens there is nobody to tell.
pub(super) fn tell(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}

impl Predecessor {
    /// Reports to the running process whose store is in this folder.
    ///
    /// # Errors
    ///
    /// There is none, or it does not want to be replaced now.
    pub(super) fn find(folder: &Path) -> io::Result<Self> {
        let path = folder.join(SOCKET);
        let stream = BlockingStream::connect(&path).map_err(|e| {
            let whom = "no running process can be reached to take over from; start without --upgrade";
            io::Error::new(e.kind(), format!("{whom} ({}: {e})", path.display()))
        })?;
        let found = Self(stream);
        found.expect(WELCOME, WELCOME_LIMIT)?;
        Ok(found)
    }

    /// Says that this process serves, and waits for the old one to let go.
    fn replace(&self) -> io::Result<()> {
        (&self.0).write_all(READY.as_bytes())?;
        self.expect(GO, PATIENCE)
    }

    fn expect(&self, wanted: &str, limit: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(limit))?;
        let mut line = String::new();
        BufReader::new((&self.0).take(LINE_MAX)).read_line(&mut line)?;
        match line.as_str() {
            line if line == wanted => Ok(()),
            "" => Err(io::Error::other("the running process goes on by itself; its log says why")),
            why => {
                Err(io::Error::other(format!("the running process does not hand over: {}", why.trim_end())))
            }
        }
    }

    /// Whether it still finishes its requests.
    fn is_there(&self) -> bool {
        if self.0.set_nonblocking(true).is_err() {
            return false;
        }
        // After `go` nothing comes but the end.
        matches!((&self.0).read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock)
    }
}

impl Started {
    /// Starts this program as it was started, to take over.
    fn new() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        // Its name, not its file: that is the old one even if another has its place.
        let program = arguments.next().ok_or(ErrorKind::NotFound)?;
        let upgrade = OsString::from("--upgrade");
        let arguments = arguments.filter(|argument| *argument != upgrade);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", LAUNCH]).arg(program).args(arguments).arg(&upgrade).process_group(0);
        let shell = shell.spawn()?;
        let group = Pid::from_raw(i32::try_from(shell.id()).map_err(io::Error::other)?);
        Ok(Self { shell, group, has_taken_over: false })
    }

    /// Whether this is the process at the other end.
    fn is_at(&self, stream: &UnixStream) -> bool {
        let of_peer = i32::try_from(process(stream)).map(Pid::from_raw);
        of_peer.is_ok_and(|id| getpgid(Some(id)) == Ok(self.group))
    }

    /// How it ended, if it did.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.shell.try_wait().ok().flatten()
    }

    /// Ends the shell, so that the process is a child of whoever inherits orphans.
    fn orphan(&mut self) -> io::Result<()> {
        self.shell.kill()?;
        self.shell.wait().map(drop)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.has_taken_over {
            return;
        }
        // It may have ended by itself.
        let _ = killpg(self.group, Signal::SIGKILL);
        let _ = self.shell.wait();
    }
}

impl Waiting {
    /// Waits for a process that reports. Until it is told so, it gets no listener.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; a process that reports just then reads the end of its connection.
    pub(super) async fn report(&mut self) {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => self.receive(stream).await,
            Err(e) => {
                log::error!("no process can report that is to take over: {e}");
                sleep(POLL_INTERVAL).await;
            }
        }
    }

    async fn receive(&mut self, mut stream: UnixStream) {
        let why = if self.reported.as_ref().is_some_and(is_open) {
            "another one waits already\n"
        } else if self.predecessor.as_ref().is_some_and(|before| before.is_there()) {
            "the one before it still finishes its requests\n"
        } else {
            WELCOME
        };
        if stream.write_all(why.as_bytes()).await.is_ok() && why == WELCOME {
            log::info!("upgrade: process {} waits to take over", process(&stream));
            self.reported = Some(stream);
        }
    }

    /// Starts a process and waits until it reports.
    async fn start(&mut self) -> Result<Successor, String> {
        if self.reported.as_ref().is_some_and(is_open) {
            return Err("a process that was started otherwise waits already; SIGQUIT hands over to it".into());
        }
        if self.predecessor.as_ref().is_some_and(|before| before.is_there()) {
            return Err("the process before this one still finishes its requests; try again later".into());
        }
        let mut started = Started::new().map_err(|e| format!("the new process cannot be started: {e}"))?;
        let waited = async {
            loop {
                if let Some(stream) = self.reported.take_if(|stream| started.is_at(stream)) {
                    return Ok(stream);
                }
                if let Some(status) = started.ended() {
                    return Err(format!("the new process ended before it took over ({status})"));
                }
                tokio::select! {
                    () = self.report() => {}
                    () = sleep(POLL_INTERVAL) => {}
                }
            }
        };
        let waited = timeout(PATIENCE, waited).await;
        let stream = waited.map_err(|_| "the new process did not report in time".to_owned())??;
        Ok(Successor { stream, started: Some(started) })
    }
}

/// Whether the process at the other end is there; it says nothing until it has the listeners.
fn is_open(stream: &UnixStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock)
}

/// The number of the process at the other end, 0 if it is not known.
fn process(stream: &UnixStream) -> u32 {
    let of_peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    of_peer.and_then(|id| u32::try_from(id).ok()).unwrap_or_default()
}

impl Succession {
    pub(super) fn new(
        folder: PathBuf,
        predecessor: Option<Predecessor>,
        listeners: Arc<Listeners>,
        teller: Arc<Teller>,
    ) -> Self {
        let predecessor = predecessor.map(Arc::new);
        let (successor, failed) = (Mutex::default(), AtomicBool::new(false));
        Self { folder, predecessor, listeners, teller, successor, failed }
    }

    /// Whether this process takes the place of another.
    pub(super) fn takes_over(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Whether this process ended because it could not begin to serve.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Whether the process before this one still finishes its requests.
    pub(super) fn is_predecessor_there(&self) -> bool {
        self.predecessor.as_ref().is_some_and(|before| before.is_there())
    }

    /// Takes the place of the process before this one, if there is one, and tells the service manager that this one serves.
    ///
    /// # Errors
    ///
    /// A listener is not open, or the process before does not let go. The reason is a sentence.
    pub(super) async fn begin(&self) -> Result<Waiting, String> {
        let opened = async {
            while !self.listeners.are_open() {
                sleep(POLL_INTERVAL).await;
            }
        };
        let opened = timeout(OPENING_LIMIT, opened).await;
        opened.map_err(|_| "an address of its configuration cannot be listened at".to_owned())?;
        if let Some(before) = &self.predecessor {
            let before = Arc::clone(before);
            let replaced = spawn_blocking(move || before.replace()).await.map_err(|e| e.to_string())?;
            replaced.map_err(|e| e.to_string())?;
        }
        if let Err(e) = handover::offer(&self.teller, &self.folder) {
            log::warn!("an upgrade will take a stop, the ledger cannot be handed over: {e}");
        }
        let listener =
            listen_in(&self.folder).inspect_err(|e| log::warn!("an upgrade will take a stop: {e}"));
        tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
        Ok(Waiting { listener: listener.ok(), predecessor: self.predecessor.clone(), reported: None })
    }

    /// Hands over to the process that waits, or to one that it `starts`. When this returns that process serves and has been
    /// told that it may.
    ///
    /// # Errors
    ///
    /// Why no process has taken over, a sentence.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; a process that was to take over does not then.
    pub(super) async fn hand_over(&self, waiting: &mut Waiting, starts: bool) -> Result<(), String> {
        let mut successor = if starts {
            waiting.start().await?
        } else {
            let reported = waiting.reported.take().filter(is_open);
            let none = "no process waits to take over; start it with `run --upgrade` first";
            Successor { stream: reported.ok_or_else(|| none.to_owned())?, started: None }
        };
        let listeners = Arc::clone(&self.listeners);
        let path = self.folder.join(LISTENERS_SOCKET).to_string_lossy().into_owned();
        let sent = spawn_blocking(move || listeners.send_to(&path)).await.map_err(|e| e.to_string())?;
        sent.map_err(|e| format!("the listeners cannot be handed over: {e}"))?;
        successor.expect_ready().await?;
        let number = process(&successor.stream);
        if let Some(started) = &mut successor.started {
            started.orphan().map_err(|e| format!("the new process cannot be let go: {e}"))?;
        }
        // From this one, which the service manager believes; from then on it believes the other.
        tell(&[NotifyState::MainPid(number)]);
        let let_go = successor.stream.write_all(GO.as_bytes()).await;
        let_go.map_err(|e| format!("the new process is gone: {e}"))?;
        log::info!("upgrade: process {number} has taken over; this one finishes its requests");
        if let Some(started) = &mut successor.started {
            started.has_taken_over = true;
        }
        *self.successor.lock().unwrap_or_else(PoisonError::into_inner) = Some(successor);
        Ok(())
    }

    /// Goes on after an upgrade that failed.
    pub(super) async fn keep(&self, failed: &str) {
        log::error!("no upgrade, this process goes on: {failed}");
        let teller = Arc::clone(&self.teller);
        // If it is not back now, the next paid request asks for it.
        let _ = spawn_blocking(move || teller.reclaim()).await;
        tell(&[NotifyState::Status(&format!("serving; the last upgrade failed: {failed}"))]);
    }
}

impl Successor {
    async fn expect_ready(&mut self) -> Result<(), String> {
        let mut line = [0; READY.len()];
        let heard = timeout(PATIENCE, self.stream.read_exact(&mut line)).await;
        match heard {
            Err(_) => Err("the new process does not begin to serve".into()),
            Ok(Ok(_)) if line == READY.as_bytes() => Ok(()),
            Ok(_) => Err(format!("the new process ended before it served{}", self.status().await)),
        }
    }

    /// How it ended, in brackets, if this process can know.
    async fn status(&mut self) -> String {
        let Some(started) = &mut self.started else { return String::new() };
        // Its connection ends a moment before it does.
        sleep(POLL_INTERVAL).await;
        started.ended().map(|status| format!(" ({status})")).unwrap_or_default()
    }
}

fn listen_in(folder: &Path) -> io::Result<UnixListener> {
    let path = folder.join(SOCKET);
    let _ = remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}
