//! Signals that end a process, received by one thread, so that work before the end needs no signal handler. That work
//! is left to the caller.

/// The signals that request the end of a process. A signal that was ignored when the process began (`nohup`) stays
/// ignored.
const TERMINATING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Makes a write past the limit on file sizes (`RLIMIT_FSIZE`) an error, as on a full disk; by default it kills the
/// process.
pub fn survive_file_size_limit() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The terminating signals, blocked: they wait for [`Termination::wait`] instead of ending the process.
#[derive(Debug)]
pub struct Termination {
    signals: Vec<i32>,
}

impl Termination {
    /// Blocks them in the calling thread, and in all threads that it starts from now on. Child programs do not inherit
    /// this (`std::process::Command` clears the mask).
    pub fn block() -> Termination {
        let signals: Vec<i32> = TERMINATING.into_iter().filter(|&signal| !is_ignored(signal)).collect();
        mask(libc::SIG_BLOCK, &signals);
        Termination { signals }
    }

    /// Waits for one of the signals and returns its number.
    pub fn wait(&self) -> i32 {
        let (set, mut signal) = (set_of(&self.signals), 0);
        loop {
            // SAFETY: both point to values of these types. Without signals in the set it waits for ever.
            if unsafe { libc::sigwait(&set, &mut signal) } == 0 {
                return signal;
            }
        }
    }

    /// Ends the process as the signal would have.
    pub fn end(signal: i32) -> ! {
        // SAFETY: the default action installs no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // `raise` sends to the calling thread, where the signal must not be blocked.
        mask(libc::SIG_UNBLOCK, &[signal]);
        // SAFETY: no memory is involved.
        unsafe { libc::raise(signal) };
        std::process::exit(128 + signal)
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a `sigaction`; a null new action changes nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: `sigemptyset` initialises the set; the numbers are those of signals.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

fn mask(how: i32, signals: &[i32]) {
    let set = set_of(signals);
    // SAFETY: a set that is initialised; a null old set is not written to.
    unsafe { libc::pthread_sigmask(how, &set, std::ptr::null_mut()) };
}
