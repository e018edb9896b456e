//! Which file is the real driver: the one the loader would have found without us.
//!
//! This library answers to the driver's name, so the loader cannot be asked; its search is done
//! again here. `COLDPRESS_REAL_LIBCUDA` overrides it. A file that is coldpress itself is never
//! taken. Never: a call of a driver function.

use super::image;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const NAME: &str = "libcuda.so.1";

/// The override.
const VARIABLE: &str = "COLDPRESS_REAL_LIBCUDA";

/// Folders the loader looks in by itself, after its cache.
const SYSTEM: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Where drivers are put on systems whose loader is told about them in other ways.
const ELSEWHERE: [&str; 5] = [
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/run/opengl-driver/lib",
    "/usr/local/cuda/compat",
];

/// An open driver. It stays open.
#[derive(Debug)]
pub struct Library {
    handle: *mut c_void,
    /// Its file.
    pub path: PathBuf,
}

impl Library {
    /// The address of an exported name; null where it is missing.
    pub fn symbol(&self, name: &CStr) -> *const () {
        // SAFETY: the handle is never closed; the name is terminated.
        unsafe { libc::dlsym(self.handle, name.as_ptr()) as *const () }
    }
}

/// Opens the real driver; the error is a line for the user.
pub fn open() -> Result<Library, String> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        if is_ours(&path) {
            return Err(format!("{VARIABLE} names coldpress itself: {}", path.display()));
        }
        return load(&path).map_err(|e| format!("{VARIABLE}: {e}"));
    }
    let mut refused = None;
    for path in candidates().into_iter().filter(|path| path.is_file() && !is_ours(path)) {
        match load(&path) {
            Ok(library) => return Ok(library),
            // The loader, too, goes on when a file is for another machine.
            Err(e) => refused = refused.or(Some(e)),
        }
    }
    Err(match refused {
        Some(e) => format!("no usable CUDA driver: {e}"),
        None => format!("no CUDA driver ({NAME}) found, {VARIABLE} can name it"),
    })
}

fn load(path: &Path) -> Result<Library, String> {
    // A path, never a bare name: for that the loader would answer with this library.
    let path = std::path::absolute(path).map_err(|e| e.to_string())?;
    let file = CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: a terminated path; a driver's constructors are made to run in any program.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !handle.is_null() {
        let library = Library { handle, path };
        // The loader answers for a file it has open already, under whatever path: ours, if that
        // is where the path leads.
        let init = library.symbol(c"cuInit");
        if own_image().contains(&(init as usize)) {
            return Err(format!("{} leads to coldpress itself", library.path.display()));
        }
        if init.is_null() {
            return Err(format!("{} has no cuInit", library.path.display()));
        }
        return Ok(library);
    }
    // SAFETY: null, or a terminated string that lives until this thread's next dl call.
    let text = unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text)) };
    Err(text.map_or_else(|| "unknown reason".to_owned(), |t| t.to_string_lossy().into_owned()))
}

/// Files in the order in which the loader would try them.
fn candidates() -> Vec<PathBuf> {
    let mut folders = search_path();
    // The loader's own folders are at the end of its list, but come after its cache.
    let mut end = folders.len();
    while end > 0 {
        let folder = &folders[end - 1];
        if !SYSTEM.iter().any(|s| Path::new(s) == folder) || folders[end..].contains(folder) {
            break;
        }
        end -= 1;
    }
    let system = folders.split_off(end);
    let mut files: Vec<PathBuf> = folders.into_iter().map(|folder| folder.join(NAME)).collect();
    let cache = std::fs::read("/etc/ld.so.cache").unwrap_or_default();
    files.extend(image::cached(&cache, NAME).into_iter().map(PathBuf::from));
    let known = SYSTEM.iter().chain(&ELSEWHERE).map(PathBuf::from);
    files.extend(system.into_iter().chain(known).map(|folder| folder.join(NAME)));
    files
}

/// True for this library's own file, and for any other copy or version of it.
fn is_ours(path: &Path) -> bool {
    let Ok(meta) = path.metadata() else { return false };
    let same = own_file()
        .and_then(|own| own.metadata().ok())
        .is_some_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()));
    same || image::has_symbol(path, b"coldpress_version")
}

#[repr(C)]
struct SerPath {
    name: *const c_char,
    flags: c_uint,
}

#[repr(C)]
struct SerInfo {
    size: usize,
    count: c_uint,
    paths: [SerPath; 0],
}

unsafe extern "C" {
    fn dlinfo(handle: *mut c_void, request: c_int, info: *mut c_void) -> c_int;
}

/// The folders the loader searches for the program: its RPATH, `LD_LIBRARY_PATH` as it was at
/// the start, its RUNPATH, the system's.
fn search_path() -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut head = SerInfo { size: 0, count: 0, paths: [] };
    // SAFETY: the null name means the program; its handle is always valid.
    let program = unsafe { libc::dlopen(std::ptr::null(), libc::RTLD_NOW) };
    if program.is_null() {
        return out;
    }
    // SAFETY: `head` is a live local of the documented layout.
    if unsafe { dlinfo(program, libc::RTLD_DI_SERINFOSIZE, (&raw mut head).cast()) } != 0 {
        return out;
    }
    // In words, for the alignment of the structure.
    let mut buffer = vec![0u64; head.size.div_ceil(8).max(2)];
    let info = buffer.as_mut_ptr().cast::<SerInfo>();
    // SAFETY: the buffer has the size asked for; size and count are the loader's own, and it
    // writes `count` terminated names that live as long as the buffer.
    unsafe {
        (*info).size = head.size;
        (*info).count = head.count;
        if dlinfo(program, libc::RTLD_DI_SERINFO, info.cast()) != 0 {
            return out;
        }
        let first = (&raw const (*info).paths).cast::<SerPath>();
        for i in 0..(*info).count as usize {
            let name = CStr::from_ptr((*first.add(i)).name);
            out.push(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
        }
    }
    out
}

/// Where the loaded image is that contains this very code.
pub fn own_image() -> Range<usize> {
    static IMAGE: OnceLock<Range<usize>> = OnceLock::new();
    IMAGE.get_or_init(|| image::containing(own_image as *const () as usize)).clone()
}

/// True where this code is part of the program itself rather than of a library.
pub fn in_the_program() -> bool {
    // SAFETY: asks for a number.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    own_image().contains(&headers)
}

/// The file of the image that contains this code.
pub fn own_file() -> Option<PathBuf> {
    // SAFETY: all zeros is a valid Dl_info.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked about; `info` is a live local.
    if unsafe { libc::dladdr(own_file as *const c_void, &mut info) } == 0 {
        return None;
    }
    // SAFETY: the name of a loaded image, terminated; this image stays loaded.
    let name = unsafe { info.dli_fname.as_ref().map(|name| CStr::from_ptr(name)) }?;
    std::fs::canonicalize(OsStr::from_bytes(name.to_bytes())).ok()
}
