//! What the system does to a process that writes where it cannot, kept away from the host program.
//!
//! Owns: signals that a write of ours raises, descriptors of ours among the program's. Never:
//! what is written. A program may be started with standard descriptors closed, with limits on
//! files, with a log reader that has gone: none of that may end it, and nothing of ours may land
//! in a file of its own.

use std::fs::File;
use std::io::{self, Error};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// Runs `write`, whose failure may raise SIGPIPE (the reader has gone) or SIGXFSZ (the file is
/// as long as it may be). Both go to the thread that wrote, so they are held back on this thread
/// and taken away after a failure. One that was pending before is the program's and stays.
pub fn quietly<R>(write: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    let (mut ours, mut pending, mut before) =
        (MaybeUninit::uninit(), MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: sigemptyset, sigpending and pthread_sigmask initialise the three sets in this
    // order; nothing else is touched.
    unsafe {
        libc::sigemptyset(ours.as_mut_ptr());
        libc::sigpending(pending.as_mut_ptr());
        for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
            if libc::sigismember(pending.as_ptr(), signal) == 0 {
                libc::sigaddset(ours.as_mut_ptr(), signal);
            }
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, ours.as_ptr(), before.as_mut_ptr());
    }
    let result = write();
    let errno = result.as_ref().err().and_then(Error::raw_os_error);
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the sets were initialised above; the information about the signal is not wanted.
    unsafe {
        if matches!(errno, Some(libc::EPIPE | libc::EFBIG)) {
            while libc::sigtimedwait(ours.as_ptr(), std::ptr::null_mut(), &zero) < 0
                && Error::last_os_error().raw_os_error() == Some(libc::EINTR)
            {}
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
    }
    result
}

/// Writes all of `bytes` to a descriptor, a signal of the program's notwithstanding.
pub fn write_all(fd: RawFd, mut bytes: &[u8]) -> io::Result<()> {
    quietly(|| {
        while !bytes.is_empty() {
            // SAFETY: a live slice of that length.
            let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
            match usize::try_from(n) {
                Ok(n) => bytes = &bytes[n..],
                Err(_) => match Error::last_os_error() {
                    e if e.raw_os_error() == Some(libc::EINTR) => {}
                    e => return Err(e),
                },
            }
        }
        Ok(())
    })
}

/// True if the descriptor is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: asks for flags; any number may be asked about.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// The same file under a descriptor above the standard ones: where those were closed, a file of
/// ours would be what the program takes for its output.
pub fn above_standard(file: File) -> io::Result<File> {
    if file.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(file);
    }
    // SAFETY: duplicates a descriptor of our own.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: made just now, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// A file that stays open for long. A program may close descriptors it does not know, all of
/// them in a loop perhaps, and then open its own under the same numbers: those are left alone.
#[derive(Debug)]
pub struct Kept {
    file: File,
    identity: (u64, u64),
}

impl Kept {
    /// Keeps `file`.
    pub fn new(file: File) -> io::Result<Kept> {
        let file = above_standard(file)?;
        let identity = identity(&file)?;
        Ok(Kept { file, identity })
    }

    /// Appends `bytes`, unless it is another file by now.
    pub fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        if identity(&self.file)? != self.identity {
            return Err(io::ErrorKind::NotFound.into());
        }
        write_all(self.file.as_raw_fd(), bytes)
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|m| (m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    fn pipe() -> (OwnedFd, OwnedFd) {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors, owned from here on.
        unsafe {
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
            (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        }
    }

    /// Test programs ignore SIGPIPE; here it would end the program as it does elsewhere.
    #[test]
    fn a_reader_that_has_gone_ends_nobody() {
        // SAFETY: the default action, in a process of tests only.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (read, write) = pipe();
        drop(read);
        let result = write_all(write.as_raw_fd(), b"text");
        assert_eq!(result.err().and_then(|e| e.raw_os_error()), Some(libc::EPIPE));
    }

    #[test]
    fn a_file_that_has_become_another_is_left_alone() {
        let path =
            |n| std::env::temp_dir().join(format!("coldpress-kept-{n}-{}", std::process::id()));
        let kept = Kept::new(File::create(path(1)).expect("file")).expect("kept");
        kept.write_all(b"first").expect("written");
        let other = File::create(path(2)).expect("file");
        // SAFETY: puts the program's file where ours was.
        unsafe { libc::dup2(other.as_raw_fd(), kept.file.as_raw_fd()) };
        assert!(kept.write_all(b"second").is_err());
        assert_eq!(std::fs::read(path(1)).expect("file"), b"first");
        assert_eq!(std::fs::read(path(2)).expect("file"), b"");
        for n in 1..=2 {
            std::fs::remove_file(path(n)).expect("clean");
        }
    }
}
