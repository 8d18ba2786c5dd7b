//! A child process that never outlives the test that started it.
//!
//! Its output is read all the time, so that a full pipe cannot stop it. It is ended by `Drop`: SIGTERM, and
//! SIGKILL when that had no effect within five seconds. Where the test process itself is killed no `Drop` runs;
//! then the kernel ends the child (`setpriv --pdeathsig`, which needs no unsafe code of ours).

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{wait_for, wait_until};

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running child process, with what it has written so far.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    stdout: Output,
    stderr: Output,
}

impl Process {
    /// Starts a program. Panics when it is not there; that it ends at once is for the caller to see.
    pub fn start(program: &Path, args: &[String], env: &[(String, String)]) -> Self {
        assert!(program.exists(), "no such program: {}", program.display());
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(args);
        for (name, _) in std::env::vars_os() {
            // What the developer's shell says about Redis must not reach the program under test.
            if name.to_str().is_some_and(|name| name.starts_with("REDIS_")) {
                command.env_remove(name);
            }
        }
        command.envs(env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command)
            .unwrap_or_else(|error| panic!("cannot run setpriv (Debian's util-linux has it): {error}"));
        let stdout = Output::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Output::of(child.stderr.take().expect("stderr is a pipe"));
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        Self { name, child, ended: None, stdout, stderr }
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written to stdout.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// All that it has written to stderr.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Its status when it has ended already.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("our own child can be asked");
        }
        self.ended
    }

    /// Waits until it ends by itself; panics after `limit`. Afterwards its output is complete.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        let status = wait_for(&what, limit, || self.status());
        self.stdout.finish();
        self.stderr.finish();
        status
    }

    /// Stops it from running, without ending it (SIGSTOP), and waits until it stands still. The kernel still
    /// accepts connections for it.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        let what = format!("{} to stand still", self.name);
        let stat = format!("/proc/{}/stat", self.pid());
        wait_until(&what, PATIENCE, || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
    }

    /// Lets it run again (SIGCONT).
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Ends it as a crash would (SIGKILL) and waits for the end.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(PATIENCE)
    }

    /// Asks it to end (SIGTERM) and waits for it; after five seconds it is killed.
    pub fn stop(&mut self) -> ExitStatus {
        self.stop_within(PATIENCE)
    }

    /// Asks it to end (SIGTERM) and waits for it so long; then it is killed.
    pub fn stop_within(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = self.status() {
                self.stdout.finish();
                self.stderr.finish();
                return status;
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.kill()
    }

    /// Sends a signal. A process that has ended is left alone: its number may belong to another by now.
    pub fn signal(&mut self, signal: Signal) {
        if self.status().is_some() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a number");
        kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("{}: cannot send {signal:?}: {error}", self.name));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a process writes to one of its pipes, read by a thread of its own.
#[derive(Debug)]
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Output {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits for the end of the pipe, which comes with the end of the process; not for long, as a grandchild
    /// (a BGSAVE) may hold the pipe open.
    fn finish(&mut self) {
        let started = Instant::now();
        if let Some(reader) = self.reader.take() {
            while !reader.is_finished() && started.elapsed() < Duration::from_secs(1) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Starts a command from a thread that lives as long as this process.
///
/// The kernel sends the death signal when the *thread* that started the child ends. A test runs on a thread of
/// its own, so a server that several tests share would end with the first of them.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = channel();
    starter.send((command, answer)).expect("the starting thread lives as long as the process");
    child.recv().expect("the starting thread answers every order")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], &[])
    }

    fn exists(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn both_outputs_are_complete_when_the_process_has_ended() {
        let mut process = shell("echo out; echo err >&2; exit 3");
        assert_eq!(process.wait(Duration::from_secs(5)).code(), Some(3));
        assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = shell("exec sleep 60");
        let pid = process.pid();
        assert!(exists(pid));
        drop(process);
        assert!(!exists(pid));
    }

    #[test]
    fn a_paused_process_ends_too() {
        let mut process = shell("exec sleep 60");
        process.pause();
        assert!(!process.stop().success());
    }

    #[test]
    fn a_process_outlives_the_thread_that_started_it() {
        let starting = || {
            let process = Process::start(Path::new("/bin/sleep"), &["60".to_owned()], &[]);
            wait_for("setpriv to become sleep", Duration::from_secs(5), || {
                let name = fs::read_to_string(format!("/proc/{}/comm", process.pid())).ok()?;
                (name.trim() == "sleep").then_some(())
            });
            process
        };
        let mut process = thread::spawn(starting).join().expect("the starting thread does not panic");
        assert_eq!(process.status(), None);
    }
}
