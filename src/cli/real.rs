//! The real driver, as far as commands ask it anything: found the way the loader finds it, its
//! functions looked up in that library. Never through this package's own exports.

use coldpress::driver::types::CUmemAllocationProp;
use coldpress::driver::{Api, CUresult, code};
use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// An open driver library. It stays open: drivers do not like to be unloaded.
pub struct Real {
    api: Api,
    /// Where it was found.
    pub path: PathBuf,
    simulated: bool,
}

/// What a driver says about a card.
pub struct Card {
    /// Its name.
    pub name: String,
    /// Its memory.
    pub bytes: u64,
    /// Whether it has virtual memory management.
    pub vmm: bool,
    /// Bytes of a granule, where it says.
    pub granule: Option<u64>,
}

/// CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
const ATTRIBUTE_VMM: i32 = 102;

/// A symbol only coldpress has.
const OURS: &CStr = c"coldpress_version";

/// Opens the driver that programs here would get; the error says why there is none.
pub fn find() -> Result<Real, String> {
    let named = std::env::var_os("COLDPRESS_REAL_LIBCUDA").filter(|path| !path.is_empty());
    let file = match &named {
        Some(path) => CString::new(path.as_bytes()).map_err(|e| e.to_string())?,
        None => c"libcuda.so.1".to_owned(),
    };
    // SAFETY: a terminated string; constructors of a driver library are made to run anywhere.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(loader_error());
    }
    if !symbol(handle, OURS).is_null() {
        return Err(format!("{} is coldpress itself", file.to_string_lossy()));
    }
    let init = symbol(handle, c"cuInit");
    if init.is_null() {
        return Err(format!("{} has no cuInit", file.to_string_lossy()));
    }
    let path = image_of(init).or(named.map(PathBuf::from)).unwrap_or_default();
    // SAFETY: the names come from the driver's own library, where they are what they say.
    let api = unsafe { Api::load(|name| symbol(handle, name)) };
    let simulated = !symbol(handle, c"simcuda_peak").is_null();
    Ok(Real { api, path, simulated })
}

/// The file of coldpress if it is loaded into this very process.
pub fn loaded_coldpress() -> Option<PathBuf> {
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
    // SAFETY: a terminated string; nothing new is loaded.
    let handle = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), flags) };
    if handle.is_null() {
        return None;
    }
    let found = symbol(handle, OURS);
    if found.is_null() { None } else { image_of(found) }
}

fn symbol(handle: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: the handle is open and stays so; the name is terminated.
    unsafe { libc::dlsym(handle, name.as_ptr()) }
}

fn loader_error() -> String {
    // SAFETY: returns null or a string that lives until the next dl call of this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "unknown reason".to_owned();
    }
    // SAFETY: not null, terminated, and copied before any other dl call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The file of the library that holds `address`.
pub fn image_of(address: *const c_void) -> Option<PathBuf> {
    // SAFETY: all zeros is a valid Dl_info.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked about; `info` is a live local.
    if unsafe { libc::dladdr(address, &mut info) } == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the name belongs to a loaded library, which stays loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    std::fs::canonicalize(OsStr::from_bytes(name.to_bytes())).ok()
}

impl Real {
    /// True for the simulated driver of this package.
    pub fn simulated(&self) -> bool {
        self.simulated
    }

    /// CUDA version the driver speaks, as the driver writes it (13000).
    pub fn cuda_version(&self) -> i32 {
        let mut version = 0;
        // SAFETY: `version` is a live local; this call needs no started driver.
        unsafe { (self.api.cuDriverGetVersion)(&mut version) };
        version
    }

    /// Starts the driver and lists its cards; the driver's status if that fails.
    pub fn cards(&self) -> Result<Vec<Card>, CUresult> {
        // SAFETY: takes no pointers.
        check(unsafe { (self.api.cuInit)(0) })?;
        let mut count = 0;
        // SAFETY: `count` is a live local.
        check(unsafe { (self.api.cuDeviceGetCount)(&mut count) })?;
        (0..count).map(|device| self.card(device)).collect()
    }

    fn card(&self, device: i32) -> Result<Card, CUresult> {
        let (mut name, mut bytes, mut vmm, mut granule) = ([0 as c_char; 128], 0, 0, 0);
        // SAFETY: the array is one longer than what is said; it stays terminated.
        check(unsafe { (self.api.cuDeviceGetName)(name.as_mut_ptr(), 127, device) })?;
        // SAFETY: `bytes` is a live local.
        check(unsafe { (self.api.cuDeviceTotalMem_v2)(&mut bytes, device) })?;
        // SAFETY: `vmm` is a live local.
        check(unsafe { (self.api.cuDeviceGetAttribute)(&mut vmm, ATTRIBUTE_VMM, device) })?;
        let prop = CUmemAllocationProp::pinned_on(device);
        // SAFETY: `granule` and `prop` are live locals; 0 asks for the minimum.
        let known = unsafe { (self.api.cuMemGetAllocationGranularity)(&mut granule, &prop, 0) };
        // SAFETY: terminated, see above.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let granule = (known == code::SUCCESS).then_some(granule as u64);
        Ok(Card { name, bytes: bytes as u64, vmm: vmm == 1, granule })
    }
}

fn check(status: CUresult) -> Result<(), CUresult> {
    if status == code::SUCCESS { Ok(()) } else { Err(status) }
}
