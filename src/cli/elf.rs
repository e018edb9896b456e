//! As much of ELF as the commands need: is a program dynamic, what is a library's SONAME.
//! Reads 64-bit little-endian files only; everything else is "don't know".

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An opened ELF file.
pub struct Elf {
    file: File,
    /// Program headers: type, file offset, address, bytes in the file.
    segments: Vec<(u32, u64, u64, u64)>,
}

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERP: u32 = 3;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;

impl Elf {
    /// Reads the headers; `None` when it is no ELF file we can read.
    pub fn open(path: &Path) -> Option<Elf> {
        let file = File::open(path).ok()?;
        let header = read(&file, 0, 64)?;
        // Magic, 64 bit, little endian.
        if header[..6] != *b"\x7fELF\x02\x01" {
            return None;
        }
        let (table, size, count) = (word(&header, 32)?, half(&header, 54)?, half(&header, 56)?);
        if size < 56 {
            return None;
        }
        let mut segments = Vec::new();
        for i in 0..count {
            let entry = read(&file, table.checked_add(i * size)?, 56)?;
            let kind = u32::from_le_bytes(entry[..4].try_into().ok()?);
            segments.push((kind, word(&entry, 8)?, word(&entry, 16)?, word(&entry, 32)?));
        }
        Some(Elf { file, segments })
    }

    /// True when the loader starts it, so that LD_PRELOAD works.
    pub fn is_dynamic(&self) -> bool {
        self.segments.iter().any(|s| s.0 == INTERP)
    }

    /// The SONAME of a library.
    pub fn soname(&self) -> Option<String> {
        let &(_, offset, _, bytes) = self.segments.iter().find(|s| s.0 == DYNAMIC)?;
        let entries = read(&self.file, offset, bytes.min(64 << 10) as usize)?;
        let find = |tag| {
            entries.chunks_exact(16).find(|e| word(e, 0) == Some(tag)).and_then(|e| word(e, 8))
        };
        let address = find(DT_STRTAB)?.checked_add(find(DT_SONAME)?)?;
        let &(_, start, base, _) =
            self.segments.iter().find(|s| s.0 == LOAD && (s.2..s.2 + s.3).contains(&address))?;
        let mut text = vec![0; 256];
        let n = self.file.read_at(&mut text, start + (address - base)).ok()?;
        let end = text[..n].iter().position(|&b| b == 0)?;
        String::from_utf8(text[..end].to_vec()).ok()
    }
}

fn read(file: &File, offset: u64, bytes: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; bytes];
    file.read_exact_at(&mut out, offset).ok()?;
    Some(out)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_libraries_are_told_apart() {
        let this = Elf::open(&std::env::current_exe().expect("path")).expect("ELF");
        assert!(this.is_dynamic());
        assert_eq!(this.soname(), None);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let libc = maps.split_ascii_whitespace().find(|w| w.ends_with("/libc.so.6"));
        let libc = Elf::open(Path::new(libc.expect("libc is mapped"))).expect("ELF");
        assert_eq!(libc.soname().as_deref(), Some("libc.so.6"));
        assert!(Elf::open(Path::new("/proc/self/maps")).is_none(), "text");
        assert!(Elf::open(Path::new("/nonexistent")).is_none());
    }
}
