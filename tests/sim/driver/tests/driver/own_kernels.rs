//! The library's own kernels, loaded from the image that it ships.

use crate::gpu::{Gpu, MODES, alone, file};
use cuda_client::{Code, DevicePtr, Extra, Function, Grid, Stream};
use std::ffi::CString;

/// What the library ships.
const FATBIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));
/// The codec's CPU build.
const CODEC: &str = concat!(env!("OUT_DIR"), "/codec.so");

const PAGE: usize = 65536;
const NULL: Stream = Stream::NULL;
const NO_BINARY: Code = Code(209);

type Scratch = unsafe extern "C" fn() -> u32;
type Encode = unsafe extern "C" fn(*const u8, u32, u32, *mut Descriptor, *mut u8, *mut u8);

/// A descriptor, aligned as on a device.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Descriptor([u32; 8]);

impl Descriptor {
    fn mode(self) -> u32 {
        self.0[0] >> 8 & 255
    }

    fn bytes(self) -> usize {
        16 * (self.0[3] & 0xFFFF) as usize
    }
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Aligned([u8; 64]);

fn aligned(bytes: &[u8]) -> Vec<Aligned> {
    let mut out = vec![Aligned([0; 64]); PAGE / 64];
    for (to, from) in out.iter_mut().zip(bytes.chunks(64)) {
        to.0[..from.len()].copy_from_slice(from);
    }
    out
}

/// A page as the codec's CPU build codes it, by a library of its own.
fn by_cpu(page: &[u8]) -> (Descriptor, Vec<u8>) {
    let path = CString::new(CODEC).expect("a path");
    // SAFETY: a library with these functions; aligned memory of the sizes that they want.
    unsafe {
        let codec = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!codec.is_null());
        let scratch: Scratch =
            std::mem::transmute(libc::dlsym(codec, c"cp_scratch_bytes_test".as_ptr()));
        let encode: Encode =
            std::mem::transmute(libc::dlsym(codec, c"cp_page_encode_test".as_ptr()));
        let mut scratch = vec![Aligned([0; 64]); scratch() as usize / 64 + 1];
        let (mut descriptor, mut out) = (Descriptor::default(), aligned(&[]));
        let from = aligned(page);
        encode(
            from.as_ptr().cast(),
            page.len() as u32,
            0,
            &mut descriptor,
            out.as_mut_ptr().cast(),
            scratch.as_mut_ptr().cast(),
        );
        let blob = if descriptor.mode() > 2 { descriptor.bytes() } else { 0 };
        let out = std::slice::from_raw_parts(out.as_ptr().cast::<u8>(), PAGE);
        (descriptor, out[..blob].to_vec())
    }
}

/// Pages of every mode: zeros, one value, noise, floats, numbers, and short ones.
fn pages() -> Vec<Vec<u8>> {
    let mut x = 88172645463325252u64;
    let mut random = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let noise: Vec<u8> = (0..PAGE / 8).flat_map(|_| random().to_le_bytes()).collect();
    let mut halves = || {
        let sum: i64 = (0..4).map(|_| (random() % 2001) as i64 - 1000).sum();
        ((sum as f32 / 50_000.0).to_bits() >> 16) as u16
    };
    let floats: Vec<u8> = (0..PAGE / 2).flat_map(|_| halves().to_le_bytes()).collect();
    let numbers: Vec<u8> = (0..PAGE as u32 / 4).flat_map(|i| (i / 3).to_le_bytes()).collect();
    let short = |page: &[u8], n: usize| page[..n].to_vec();
    vec![
        vec![0; PAGE],
        vec![7; PAGE],
        short(&noise, 4099),
        short(&floats, 12_346),
        short(&numbers, 4096),
        vec![3],
        noise,
        floats,
        numbers,
    ]
}

/// What encode writes and decode reads.
struct Batch {
    pages: DevicePtr,
    lens: DevicePtr,
    descriptors: DevicePtr,
    blobs: DevicePtr,
    verdicts: DevicePtr,
    count: u32,
}

fn launch(gpu: &Gpu, f: Function, on: Stream, params: &Extra) {
    // SAFETY: the callers give the kernels' own parameters.
    unsafe { gpu.launch_extra(f, Grid::line(2, 32), on, params) }.expect("launched");
}

impl Batch {
    /// Batch of the pages at these addresses.
    fn new(gpu: &Gpu, at: &[DevicePtr], lens: &[u32]) -> Batch {
        let count = at.len();
        let memory = |bytes: usize| gpu.mem_alloc(bytes).expect("memory");
        let batch = Batch {
            pages: memory(8 * count),
            lens: memory(4 * count),
            descriptors: memory(32 * count),
            blobs: memory(PAGE * count),
            verdicts: memory(4 * count),
            count: count as u32,
        };
        gpu.upload(batch.pages, at).expect("written");
        gpu.upload(batch.lens, lens).expect("written");
        batch
    }

    fn encode(&self, gpu: &Gpu, f: Function, on: Stream) {
        const HINT: u32 = 0;
        const SCRATCH: u64 = 0;
        let params = Extra::default().push(self.pages).push(self.lens).push(HINT).push(self.count);
        let params = params.push(self.descriptors).push(self.blobs).push(SCRATCH);
        launch(gpu, f, on, &params);
    }

    fn decode(&self, gpu: &Gpu, f: Function, on: Stream) {
        const SCRATCH: u64 = 0;
        let params = Extra::default().push(self.descriptors).push(self.blobs).push(self.pages);
        let params = params.push(self.count).push(self.verdicts).push(SCRATCH);
        launch(gpu, f, on, &params);
    }
}

/// Encode and decode.
fn kernels(gpu: &Gpu) -> (Function, Function) {
    // SAFETY: a whole image.
    let module = unsafe { gpu.module_load(FATBIN) }.expect("it loads");
    let function = |name| gpu.function(module, name).expect("a kernel");
    (function("cp_pages_encode_v1"), function("cp_pages_decode_v1"))
}

#[test]
fn a_batch_is_coded_as_by_the_cpu_and_comes_back() {
    for mode in MODES {
        alone(&[("SIMCUDA_STREAMS", mode)], || {
            let gpu = Gpu::started();
            let (encode, decode) = kernels(&gpu);
            let pages = pages();
            let memory = |page: &Vec<u8>| {
                let at = gpu.mem_alloc(page.len()).expect("memory");
                gpu.upload(at, page).expect("written");
                at
            };
            let at: Vec<DevicePtr> = pages.iter().map(memory).collect();
            let lens: Vec<u32> = pages.iter().map(|p| p.len() as u32).collect();
            let batch = Batch::new(&gpu, &at, &lens);
            let s = gpu.stream_create(0).expect("a stream");
            batch.encode(&gpu, encode, s);
            gpu.stream_synchronize(s).expect("done");
            let words: Vec<u32> =
                gpu.read(batch.descriptors, 8 * pages.len()).expect("descriptors");
            let mut modes = 0;
            let mut placed = Vec::new();
            for (i, (page, words)) in pages.iter().zip(words.chunks_exact(8)).enumerate() {
                let got = Descriptor(words.try_into().expect("eight"));
                let (descriptor, blob) = by_cpu(page);
                assert_eq!(got, descriptor, "page {i}");
                let at = batch.blobs + (PAGE * i) as u64;
                assert_eq!(gpu.read::<u8>(at, blob.len()), Ok(blob), "page {i}");
                modes |= 1 << got.mode();
                if got.mode() == 2 {
                    gpu.upload(at, page).expect("a page that stays as it is");
                }
                let mut words = got.0;
                words[2] = (PAGE * i / 16) as u32;
                placed.extend(words);
            }
            assert_eq!(modes, 31, "a page of every mode");
            gpu.upload(batch.descriptors, &placed).expect("written");
            for (at, page) in at.iter().zip(&pages) {
                gpu.set_d8(*at, 0xEE, page.len()).expect("forgotten");
            }
            batch.decode(&gpu, decode, s);
            gpu.stream_synchronize(s).expect("done");
            assert_eq!(gpu.read::<u32>(batch.verdicts, pages.len()), Ok(vec![0; pages.len()]));
            for (at, page) in at.iter().zip(&pages) {
                assert_eq!(gpu.read::<u8>(*at, page.len()).as_ref(), Ok(page));
            }
        });
    }
}

#[test]
fn what_is_not_mapped_faults() {
    for what in ["pages", "a page", "descriptors", "blobs", "verdicts"] {
        alone(&[("CASE", what)], || {
            let gpu = Gpu::started();
            let (encode, decode) = kernels(&gpu);
            let at = gpu.mem_alloc(2 * PAGE).expect("memory");
            gpu.set_d8(at, 1, 2 * PAGE).expect("set");
            let hole = gpu.reserve(2 << 20, 0, 0).expect("addresses");
            let mut batch = Batch::new(&gpu, &[at, at + PAGE as u64], &[PAGE as u32; 2]);
            batch.encode(&gpu, encode, NULL);
            batch.decode(&gpu, decode, NULL);
            gpu.ctx_synchronize().expect("all is mapped");
            let what = std::env::var("CASE").expect("set");
            match what.as_str() {
                "pages" => batch.pages = hole,
                "a page" => gpu.upload(batch.pages + 8, &[hole]).expect("written"),
                "descriptors" => batch.descriptors = hole,
                "blobs" => batch.blobs = hole,
                _ => batch.verdicts = hole,
            }
            // Pages of one value have no blobs.
            if what == "blobs" {
                let noise: Vec<u32> =
                    (0..PAGE as u32 / 4).map(|i| i.wrapping_mul(i) >> 3 & 0xFF00FF).collect();
                gpu.upload(at, &noise).expect("written");
            }
            match what.as_str() {
                "verdicts" => batch.decode(&gpu, decode, NULL),
                _ => batch.encode(&gpu, encode, NULL),
            }
            assert_eq!(gpu.ctx_synchronize(), Err(Code::ILLEGAL_ADDRESS));
            assert_eq!(gpu.faults(), 1);
        });
    }
}

#[test]
fn their_parameters_are_known() {
    alone(&[], || {
        let gpu = Gpu::started();
        let (encode, decode) = kernels(&gpu);
        let all = |f| (0..7).map_while(|i| gpu.function_param(f, i).ok()).collect::<Vec<_>>();
        assert_eq!(all(encode), [(0, 8), (8, 8), (16, 4), (20, 4), (24, 8), (32, 8), (40, 8)]);
        assert_eq!(all(decode), [(0, 8), (8, 8), (16, 8), (24, 4), (32, 8), (40, 8)]);
    });
}

#[test]
fn another_image_is_refused() {
    alone(&[], || {
        let gpu = Gpu::started();
        let mut changed = FATBIN.to_vec();
        changed[FATBIN.len() / 2] ^= 1;
        // One that is shorter and says so.
        let mut shorter = FATBIN[..FATBIN.len() - 8].to_vec();
        let rest = (shorter.len() - 16) as u64;
        shorter[8..16].copy_from_slice(&rest.to_le_bytes());
        // SAFETY: as long as their headers say.
        unsafe {
            assert_eq!(gpu.module_load(&changed), Err(NO_BINARY));
            assert_eq!(gpu.module_load(&shorter), Err(NO_BINARY));
            assert!(gpu.module_load(FATBIN).is_ok());
        }
        let path = file("fatbin");
        std::fs::write(&path, FATBIN).expect("written");
        assert!(gpu.module_load_file(&path).is_ok());
        std::fs::write(&path, &FATBIN[..FATBIN.len() - 8]).expect("written");
        assert_eq!(gpu.module_load_file(&path), Err(Code::INVALID_IMAGE));
    });
}

#[test]
fn a_card_without_code_for_it() {
    alone(&[("SIMCUDA_KERNELS", "refuse")], || {
        let gpu = Gpu::started();
        gpu.kernels();
        // SAFETY: a whole image.
        unsafe { assert_eq!(gpu.module_load(FATBIN), Err(NO_BINARY)) };
    });
}
