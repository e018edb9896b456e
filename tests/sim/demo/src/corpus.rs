//! The tensors a run starts from: files of a folder, or made up here.

use crate::error::{During, Error, Result};
use crate::random::Random;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes on the host, in pieces of the sizes the device will hold them in.
#[derive(Debug)]
pub struct Corpus {
    /// Never empty; no piece is empty.
    pub pieces: Vec<Vec<u8>>,
    /// Where they are from, for the output.
    pub origin: String,
}

impl Corpus {
    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }
}

/// Reads the files under `folder` in order of their names, at most `max_bytes` in all and in
/// pieces of about `piece` at most. Empty files are skipped, small ones joined; any length will do.
pub fn read(folder: &Path, max_bytes: usize, piece: usize) -> Result<Corpus> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    files.sort();
    let mut pieces = Vec::new();
    let mut room = max_bytes;
    for path in &files {
        let mut file = File::open(path).during(path.display())?;
        while room > 0 {
            let mut bytes = Vec::new();
            let want = piece.min(room) as u64;
            let got = file.by_ref().take(want).read_to_end(&mut bytes).during(path.display())?;
            if got == 0 {
                break;
            }
            room -= got;
            pieces.push(bytes);
        }
    }
    if pieces.is_empty() {
        return Err(Error::new(format!("{}: no file with anything in it", folder.display())));
    }
    let pieces = joined(pieces, (piece / 16).max(1));
    Ok(Corpus { pieces, origin: folder.display().to_string() })
}

/// Pieces of at least `least` bytes, from what is shorter joined in order; what is too little
/// altogether is repeated. A folder of small files is then a program with ordinary tensors, not
/// one with a hundred thousand tiny ones, which no allocator moves.
fn joined(pieces: Vec<Vec<u8>>, least: usize) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    for piece in pieces {
        match out.last_mut() {
            Some(last) if last.len() < least => last.extend(piece),
            _ => out.push(piece),
        }
    }
    if out.len() > 1 && out.last().is_some_and(|last| last.len() < least) {
        let rest = out.pop().unwrap_or_default();
        out.last_mut().into_iter().for_each(|last| last.extend(&rest));
    }
    if let [only] = out.as_mut_slice() {
        let once = only.clone();
        while only.len() < least {
            only.extend(&once);
        }
    }
    out
}

/// Regular files below `folder`. Links to folders are not followed: they may lead in circles.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).during(folder.display())? {
        let entry = entry.during(folder.display())?;
        let path = entry.path();
        if entry.file_type().during(path.display())?.is_dir() {
            list(&path, files)?;
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// Tensors such as a model has: bf16 and fp32 weights, sparse activations, ids, masks, zeros.
pub fn generate(seed: u64, bytes: usize, piece: usize) -> Corpus {
    let mut random = Random::new(seed ^ 0xC0FF_EE00);
    let mut pieces = Vec::new();
    let mut made = 0;
    while made < bytes {
        let len = random.size(4096.min(piece), piece).min(bytes - made).max(1);
        let mut data = Vec::with_capacity(len + 8);
        let kind = pieces.len() % 6;
        while data.len() < len {
            let bits = random.next();
            // Four bytes added: a bell curve around zero, about 0.02 wide.
            let sum: i32 = bits.to_le_bytes()[..4].iter().map(|&b| i32::from(b)).sum();
            let value = (sum - 510) as f32 / 8192.0;
            match kind {
                0 | 1 => data.extend_from_slice(&value.to_bits().to_le_bytes()[2..]),
                2 => data.extend_from_slice(&(value + bits as f32 * 1e-24).to_le_bytes()),
                3 => data.extend_from_slice(&value.max(0.0).to_le_bytes()),
                4 => data.extend_from_slice(&(bits % 50_000).to_le_bytes()),
                _ => data.push(u8::from(bits.is_multiple_of(10))),
            }
        }
        data.truncate(len);
        made += len;
        pieces.push(data);
    }
    Corpus { pieces, origin: "generated".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_will_do() {
        let folder = std::env::temp_dir().join(format!("demo-corpus-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deeper")).expect("folder");
        std::fs::write(folder.join("b"), [7; 1001]).expect("file");
        std::fs::write(folder.join("a"), []).expect("file");
        std::fs::write(folder.join("deeper/c"), [8; 3]).expect("file");
        let lens = |c: Corpus| c.pieces.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(read(&folder, 10_000, 400).expect("read")), [400, 400, 204]);
        assert_eq!(lens(read(&folder, 500, 400).expect("read")), [400, 100]);
        assert_eq!(lens(read(&folder.join("deeper"), 500, 400).expect("read")), [27]);
        assert!(read(&folder.join("none"), 1, 1).is_err());
        std::fs::remove_dir_all(&folder).expect("gone");
    }

    #[test]
    fn generated_tensors_are_reproducible() {
        let (a, b) = (generate(3, 100_000, 9000), generate(3, 100_000, 9000));
        assert_eq!(a.pieces, b.pieces);
        assert_eq!(a.bytes(), 100_000);
        assert_ne!(a.pieces, generate(4, 100_000, 9000).pieces);
    }
}
