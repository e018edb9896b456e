//! Where pages live: one file a process, in a folder only its user can reach.

use super::page::{MAGIC, Page, VERSION};
use crate::os;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// `$XDG_RUNTIME_DIR/coldpress`, `/dev/shm/coldpress-<uid>`, `/tmp/coldpress-<uid>`: where pages
/// may be, best first. On a disk a counter would now and then wait for the file system's journal,
/// as JVMs learned with their statistics in `/tmp`.
fn candidates() -> Vec<PathBuf> {
    let uid = user();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|d| d.is_absolute()).map(|d| d.join("coldpress"));
    let others = [format!("/dev/shm/coldpress-{uid}"), format!("/tmp/coldpress-{uid}")];
    runtime.into_iter().chain(others.map(PathBuf::from)).collect()
}

fn user() -> u32 {
    // SAFETY: asks for a number; cannot fail.
    unsafe { libc::geteuid() }
}

/// The folder for a new page, made if it is missing: the first candidate that can be had and
/// that nobody else can have a hand in. The error is the last candidate's.
pub fn folder() -> io::Result<PathBuf> {
    let mut last = ErrorKind::NotFound.into();
    for folder in candidates() {
        let made = match DirBuilder::new().mode(0o700).create(&folder) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
            _ => check(&folder),
        };
        match made {
            Ok(()) => return Ok(folder),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Every folder that may hold pages of this user's processes: a job and a shell often differ in
/// `XDG_RUNTIME_DIR`.
fn folders() -> io::Result<Vec<PathBuf>> {
    let mut folders = candidates();
    let usual = PathBuf::from(format!("/run/user/{}/coldpress", user()));
    if !folders.contains(&usual) {
        folders.push(usual);
    }
    let (mut found, mut refused) = (Vec::new(), None);
    for folder in folders {
        match check(&folder) {
            Ok(()) => found.push(folder),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            // Somebody else's folder must not hide ours.
            Err(e) => refused = Some(e),
        }
    }
    match refused {
        Some(e) if found.is_empty() => Err(e),
        _ => Ok(found),
    }
}

/// Refuses a folder that is a link, is another user's or is open to others.
pub fn check(folder: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    if meta.is_dir() && meta.uid() == user() && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    let text = format!("{} is not a folder of ours alone (mode 0700)", folder.display());
    Err(Error::new(ErrorKind::PermissionDenied, text))
}

/// The file of process `pid`.
pub fn path(folder: &Path, pid: u32) -> PathBuf {
    folder.join(format!("{pid}.stats"))
}

/// When process `pid` started, in clock ticks since boot.
pub fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too; field 22 is 20 after it.
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// A new page in a new file for process `pid`, mapped to be shared.
pub fn create(pid: u32) -> io::Result<(&'static Page, PathBuf)> {
    let path = path(&folder()?, pid);
    // Left by an earlier process of the same pid.
    let _ = fs::remove_file(&path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .and_then(os::above_standard)?;
    let made = fill(&file).and_then(|()| map(&file));
    match made {
        // SAFETY: `map` made a mapping of a whole page of zeros, which is a valid `Page`, and it
        // is never unmapped.
        Ok(page) => Ok((unsafe { &*page }, path)),
        Err(e) => {
            let _ = fs::remove_file(&path);
            Err(e)
        }
    }
}

/// Gives the file its size and its blocks: on a full file system a hole would be a fatal signal
/// at the first count.
fn fill(file: &File) -> io::Result<()> {
    os::quietly(|| {
        loop {
            let bytes = size_of::<Page>() as i64;
            // SAFETY: an open file of our own.
            match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
                0 => return Ok(()),
                // A signal of the program's.
                libc::EINTR => {}
                e => return Err(Error::from_raw_os_error(e)),
            }
        }
    })
}

fn map(file: &File) -> io::Result<*const Page> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing else.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<Page>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(at.cast()) }
}

/// Another process's page, mapped for reading and for requests.
#[derive(Debug)]
pub struct View {
    page: *const Page,
}

impl View {
    /// Maps the page in `path`.
    pub fn open(path: &Path) -> io::Result<View> {
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        let bad = |text: &str| Error::new(ErrorKind::InvalidData, text.to_owned());
        let half_made = || Error::from(ErrorKind::NotFound);
        match file.metadata()?.len() {
            0 => return Err(half_made()),
            len if len == size_of::<Page>() as u64 => {}
            _ => return Err(bad("a statistics page of another version")),
        }
        let view = View { page: map(&file)? };
        // The writer's last word is the magic.
        if view.magic.word().load(Ordering::Acquire) == 0 {
            return Err(half_made());
        }
        let ours = view.magic.get() == MAGIC
            && view.version.get() == VERSION
            && view.size.get() == size_of::<Page>() as u64;
        if ours { Ok(view) } else { Err(bad("a statistics page of another version")) }
    }

    /// True while the process that wrote it lives.
    pub fn alive(&self) -> bool {
        start_time(self.pid.get() as u32) == Some(self.pid_start.get())
    }
}

impl std::ops::Deref for View {
    type Target = Page;

    fn deref(&self) -> &Page {
        // SAFETY: mapped in `open` over a file of a page's size, until Drop; all fields are
        // atomic words, so what the other process writes meanwhile is no data race.
        unsafe { &*self.page }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: mapped in `open` with this size; borrows of the page end before.
        unsafe { libc::munmap(self.page.cast_mut().cast(), size_of::<Page>()) };
    }
}

/// The pages of all living processes of this user, by pid. Files of dead ones are removed.
pub fn list() -> io::Result<Vec<View>> {
    let mut views = Vec::new();
    for folder in folders()? {
        for entry in fs::read_dir(&folder)? {
            views.extend(living(&entry?.path()));
        }
    }
    views.sort_by_key(|v| v.pid.get());
    // Two names of one folder.
    views.dedup_by_key(|v| v.pid.get());
    Ok(views)
}

/// The page in `path` if its process lives; else the file is removed.
fn living(path: &Path) -> Option<View> {
    let pid: u32 = path.file_name()?.to_str()?.strip_suffix(".stats")?.parse().ok()?;
    match View::open(path) {
        Ok(view) if view.pid.get() == u64::from(pid) && view.alive() => return Some(view),
        // Half made, or of another version: only a dead process leaves a file to remove.
        Err(_) if start_time(pid).is_some() => return None,
        // Gone or not, the next reader will see.
        _ => drop(fs::remove_file(path)),
    }
    None
}

/// The page of process `pid`, if it has one and lives.
pub fn find(pid: u32) -> io::Result<Option<View>> {
    for folder in folders()? {
        match View::open(&path(&folder, pid)) {
            Ok(view) if view.alive() => return Ok(Some(view)),
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(None)
}
