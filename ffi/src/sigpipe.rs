//! Keeps SIGPIPE away from the host: a peer that hangs up is an error of ours, not the end of the host's process.
//!
//! The signal is blocked on the thread that writes; the disposition of the process stays as the host set it.

use std::mem::MaybeUninit;

/// SIGPIPE blocked on this thread until this is dropped.
pub(crate) struct NoSigpipe {
    /// Whether the thread had it blocked already, or had one waiting: then nothing is ours to undo.
    leave: bool,
}

impl NoSigpipe {
    pub(crate) fn on_this_thread() -> Self {
        // SAFETY: plain calls on sets that live here; each set is made by sigemptyset before it is read.
        unsafe {
            let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
            libc::sigemptyset(old.as_mut_ptr());
            let failed = libc::pthread_sigmask(libc::SIG_BLOCK, &only_sigpipe(), old.as_mut_ptr()) != 0;
            let was_blocked = libc::sigismember(old.as_ptr(), libc::SIGPIPE) == 1;
            Self { leave: failed || was_blocked }
        }
    }

    /// Blocks it for the rest of this thread's life: for threads of our own.
    pub(crate) fn for_good() {
        std::mem::forget(Self::on_this_thread());
    }
}

impl Drop for NoSigpipe {
    fn drop(&mut self) {
        if self.leave {
            return;
        }
        // SAFETY: as above. It was not blocked before, so one that waits on this thread now came from our write.
        unsafe {
            let set = only_sigpipe();
            let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            while libc::sigtimedwait(&set, std::ptr::null_mut(), &at_once) == -1
                && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
            {}
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        }
    }
}

fn only_sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigemptyset makes the set, sigaddset adds a signal that exists.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    #[cfg_attr(miri, ignore = "it asks the system for its signals")]
    fn a_write_to_a_closed_pipe_is_an_error_and_no_signal() {
        // Rust's test programs ignore SIGPIPE: give it back its default, which would end this process.
        // SAFETY: sets a disposition of this test's own process.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        {
            let _guard = NoSigpipe::on_this_thread();
            let (reader, mut writer) = std::io::pipe().unwrap();
            drop(reader);
            assert_eq!(writer.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
        }
        // Nothing waits after the guard is gone; otherwise this process is by now.
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    }
}
