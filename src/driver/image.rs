//! As much of ELF, of the loader's cache and of loaded images as finding the driver needs.
//! Reads 64-bit little-endian files; in everything else nothing is found.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;

/// True if one of the dynamic names of the library in `path` ends in `symbol`. More cannot be told
/// from the names alone: linkers store a name that another one ends in only once.
pub fn has_symbol(path: &Path, symbol: &[u8]) -> bool {
    let wanted = [symbol, b"\0"].concat();
    names(path).is_some_and(|names| names.windows(wanted.len()).any(|w| w == wanted))
}

/// The dynamic string table.
fn names(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let header = read(&file, 0, 64)?;
    // Magic, 64 bit, little endian.
    if header[..6] != *b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (word(&header, 32)?, half(&header, 54)?, half(&header, 56)?);
    let mut loads = Vec::new();
    let mut dynamic = None;
    for i in 0..u64::from(count) {
        let entry = read(&file, table.checked_add(i * u64::from(size))?, 56)?;
        let segment = (word(&entry, 8)?, word(&entry, 16)?, word(&entry, 32)?);
        match u32::from_le_bytes(entry[..4].try_into().ok()?) {
            PT_LOAD => loads.push(segment),
            PT_DYNAMIC => dynamic = Some(segment),
            _ => {}
        }
    }
    let (offset, _, bytes) = dynamic?;
    let entries = read(&file, offset, bytes.min(1 << 16))?;
    let find =
        |tag| entries.chunks_exact(16).find(|e| word(e, 0) == Some(tag)).and_then(|e| word(e, 8));
    let (address, size) = (find(DT_STRTAB)?, find(DT_STRSZ)?);
    let inside = |(_, base, bytes): &&(u64, u64, u64)| address.wrapping_sub(*base) < *bytes;
    let (start, base, _) = loads.iter().find(inside)?;
    read(&file, start + (address - base), size.min(1 << 24))
}

fn read(file: &File, offset: u64, bytes: u64) -> Option<Vec<u8>> {
    let mut out = vec![0; bytes as usize];
    file.read_exact_at(&mut out, offset).ok()?;
    Some(out)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn quarter(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

const CACHE_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const CACHE_HEADER: usize = 48;
const CACHE_ENTRY: usize = 24;

/// What the flags of a cache entry for this machine's libraries are.
#[cfg(target_arch = "x86_64")]
const CACHE_FLAGS: u32 = 0x303;
#[cfg(not(target_arch = "x86_64"))]
const CACHE_FLAGS: u32 = 0xa03;

/// Files that the loader's cache names for a library, in its order.
pub fn cached(cache: &[u8], name: &str) -> Vec<String> {
    // An older format may stand before it.
    let Some(start) = cache.windows(CACHE_MAGIC.len()).position(|w| w == CACHE_MAGIC) else {
        return Vec::new();
    };
    let cache = &cache[start..];
    let text = |at: u32| {
        let rest = cache.get(at as usize..)?;
        std::str::from_utf8(&rest[..rest.iter().position(|&b| b == 0)?]).ok()
    };
    let count = quarter(cache, CACHE_MAGIC.len()).unwrap_or(0) as usize;
    let entries = cache.get(CACHE_HEADER..).unwrap_or_default().chunks_exact(CACHE_ENTRY);
    entries
        .take(count)
        .filter(|e| quarter(e, 0) == Some(CACHE_FLAGS))
        .filter(|e| quarter(e, 4).and_then(text) == Some(name))
        .filter_map(|e| quarter(e, 8).and_then(text).map(str::to_owned))
        .collect()
}

/// The addresses of the loaded image that contains `address`; empty where none does.
pub fn containing(address: usize) -> Range<usize> {
    let mut search = Search { address, found: 0..0 };
    // SAFETY: the callback gets exactly this search back, while it lives.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.found
}

struct Search {
    address: usize,
    found: Range<usize>,
}

unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    search: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: `containing` passes its own search; the loader passes a valid description with
    // `dlpi_phnum` headers.
    let (search, base, headers) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (&mut *search.cast::<Search>(), info.dlpi_addr as usize, headers)
    };
    let loads = || headers.iter().filter(|h| h.p_type == PT_LOAD);
    let start = loads().map(|h| base + h.p_vaddr as usize).min().unwrap_or(0);
    let end = loads().map(|h| base + (h.p_vaddr + h.p_memsz) as usize).max().unwrap_or(0);
    if (start..end).contains(&search.address) {
        search.found = start..end;
        return 1;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_names_are_found_to_their_end() {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let libc = maps.split_ascii_whitespace().find(|w| w.ends_with("/libc.so.6"));
        let libc = Path::new(libc.expect("libc is mapped"));
        assert!(has_symbol(libc, b"malloc"));
        assert!(!has_symbol(libc, b"mallo"));
        assert!(!has_symbol(Path::new("/proc/self/maps"), b"malloc"));
    }

    #[test]
    fn the_cache_answers_for_this_machine_only() {
        let mut cache = b"ld.so-1.7.0 older part".to_vec();
        let strings = b"libcuda.so.1\0/a/libcuda.so.1\0/b/libcuda.so.1\0";
        let entries: [(u32, u32, u32); 3] =
            [(3, 0, 13), (CACHE_FLAGS, 0, 29), (CACHE_FLAGS, 4, 13)];
        let at = (CACHE_HEADER + entries.len() * CACHE_ENTRY) as u32;
        let mut new = CACHE_MAGIC.to_vec();
        new.extend((entries.len() as u32).to_le_bytes());
        new.resize(CACHE_HEADER, 0);
        for (flags, key, value) in entries {
            for part in [flags, at + key, at + value] {
                new.extend(part.to_le_bytes());
            }
            new.extend([0; 12]);
        }
        cache.extend(new);
        cache.extend(strings);
        assert_eq!(cached(&cache, "libcuda.so.1"), ["/b/libcuda.so.1"]);
        assert_eq!(cached(&cache, "libcuda.so"), [""; 0]);
        for cut in 0..cache.len() {
            cached(&cache[..cut], "libcuda.so.1");
        }
    }

    #[test]
    fn this_code_is_in_one_image() {
        let here = containing(containing as *const () as usize);
        assert!(here.contains(&(containing as *const () as usize)));
        assert!(containing(8).is_empty());
    }
}
