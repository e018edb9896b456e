//! The driver's symbols, every one of them: what the loader, `dlsym` and the resolver hand out.
//!
//! Owns: one naked jump and one slot for each exported name. A slot leads to the binder until the
//! first call of any of them; then to the real function, to a hook, or to the latch (`intercept`).
//! Never: what a call means. A jump leaves arguments, stack and return address alone, so no
//! signature is needed. `r11` carries the slot's address; the calling convention leaves that
//! register to code between a call and its function.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("coldpress exports the driver's symbols through x86-64 code only so far");

use crate::driver::{CUresult, code};
use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The address of code; called only by those who know its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Code(pub *const ());

// SAFETY: an address, never dereferenced as data.
unsafe impl Sync for Code {}
// SAFETY: as above.
unsafe impl Send for Code {}

/// What an entry point does.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Leads to the real function.
    Pass,
    /// Leads to the real function; the first call turns eviction off.
    Latch,
    /// Leads to this function of ours.
    Hook(Code),
}

/// One exported symbol.
#[derive(Debug)]
pub struct Export {
    /// Its name in the symbol table.
    pub symbol: &'static CStr,
    /// Its name for the resolver.
    pub base: &'static str,
    /// The requested version from which on the resolver means this symbol.
    pub version: i32,
    /// Whether it is the variant for per-thread default streams.
    pub per_thread: bool,
    /// The exported code: the one address of this variant that programs ever see.
    pub stub: Code,
    /// What it does.
    pub action: Action,
}

impl Export {
    /// The symbol as text.
    pub fn name(&self) -> &'static str {
        // Written by the build script from an ASCII list.
        self.symbol.to_str().unwrap_or_default()
    }
}

/// Where a jump leads.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot(AtomicPtr<()>);

impl Slot {
    /// A slot that leads to `target`.
    pub const fn new(target: unsafe extern "C" fn()) -> Slot {
        Slot(AtomicPtr::new(target as *mut ()))
    }

    /// Where it leads.
    pub fn target(&self) -> *const () {
        self.0.load(Ordering::Acquire)
    }

    /// Leads it elsewhere.
    pub fn lead_to(&self, target: *const ()) {
        self.0.store(target.cast_mut(), Ordering::Release);
    }
}

/// A tail jump through slot number `$index`.
macro_rules! stub {
    ($name:ident $index:literal) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "lea r11, [rip + {slots} + {at}]",
                "jmp qword ptr [r11]",
                slots = sym SLOTS,
                at = const $index * 8,
            )
        }
    };
}

#[allow(non_snake_case, reason = "the driver's own names")]
#[allow(clippy::missing_safety_doc, reason = "the driver's own contracts")]
#[allow(missing_docs, reason = "facts; the types are documented")]
mod generated {
    use super::{Action, Code, Export, SLOTS};
    include!(concat!(env!("OUT_DIR"), "/exports.rs"));
}
pub use generated::{COUNT, EXPORTS, NEWEST};

/// Where every export leads, in the order of [`EXPORTS`].
static SLOTS: [Slot; COUNT] = [const { Slot::new(bind_entry) }; COUNT];

/// The slots of all exports.
pub fn slots() -> &'static [Slot; COUNT] {
    &SLOTS
}

/// All exports of a resolver's name, oldest first, per-thread variants last.
pub fn of_base(base: &str) -> std::ops::Range<usize> {
    let from = EXPORTS.partition_point(|e| e.base < base);
    from..from + EXPORTS[from..].iter().take_while(|e| e.base == base).count()
}

/// How a call that came in through a slot goes on.
#[derive(Debug)]
#[repr(C)]
pub struct Onward {
    /// Jump there, with the arguments as they were; null to return instead.
    target: *const (),
    /// What to return.
    status: u64,
}

impl Onward {
    /// The call goes on at `target`.
    pub fn to(target: *const ()) -> Onward {
        Onward { target, status: 0 }
    }

    /// The call ends here.
    pub fn answer(status: CUresult) -> Onward {
        Onward { target: std::ptr::null(), status: u64::from(status) }
    }
}

/// Defines code for a slot: keeps every register that can carry an argument, asks `$handler` (an
/// `extern "C" fn(*const Slot) -> Onward`) and goes on as it says.
macro_rules! entry {
    ($(#[$meta:meta])* $vis:vis $name:ident => $handler:path) => {
        $(#[$meta])*
        #[unsafe(naked)]
        $vis unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                ".cfi_def_cfa_offset 8",
                "push rbp",
                ".cfi_def_cfa_offset 16",
                ".cfi_offset rbp, -16",
                "mov rbp, rsp",
                ".cfi_def_cfa_register rbp",
                // 9 words, padding, 8 vectors, the target; keeps the stack aligned to 16.
                "sub rsp, 224",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], rcx",
                "mov [rsp + 32], r8",
                "mov [rsp + 40], r9",
                "mov [rsp + 48], rax",
                "mov [rsp + 56], r10",
                "mov [rsp + 64], r11",
                "movups [rsp + 80], xmm0",
                "movups [rsp + 96], xmm1",
                "movups [rsp + 112], xmm2",
                "movups [rsp + 128], xmm3",
                "movups [rsp + 144], xmm4",
                "movups [rsp + 160], xmm5",
                "movups [rsp + 176], xmm6",
                "movups [rsp + 192], xmm7",
                "mov rdi, r11",
                "call {handler}",
                "test rax, rax",
                "jz 2f",
                "mov [rsp + 208], rax",
                "mov rdi, [rsp]",
                "mov rsi, [rsp + 8]",
                "mov rdx, [rsp + 16]",
                "mov rcx, [rsp + 24]",
                "mov r8, [rsp + 32]",
                "mov r9, [rsp + 40]",
                "mov rax, [rsp + 48]",
                "mov r10, [rsp + 56]",
                "mov r11, [rsp + 64]",
                "movups xmm0, [rsp + 80]",
                "movups xmm1, [rsp + 96]",
                "movups xmm2, [rsp + 112]",
                "movups xmm3, [rsp + 128]",
                "movups xmm4, [rsp + 144]",
                "movups xmm5, [rsp + 160]",
                "movups xmm6, [rsp + 176]",
                "movups xmm7, [rsp + 192]",
                "leave",
                // The target, still in the red zone: every register is the program's, and r11
                // has the slot again, which the target may be another entry to need.
                "jmp qword ptr [rsp - 24]",
                "2:",
                "mov eax, edx",
                "leave",
                "ret",
                ".cfi_endproc",
                handler = sym $handler,
            )
        }
    };
}
pub(crate) use entry;

entry! {
    /// Where every export leads before the first call.
    bind_entry => bind_hit
}

extern "C" fn bind_hit(slot: *const Slot) -> Onward {
    if !crate::intercept::bind::bind() {
        return Onward::answer(code::NOT_INITIALIZED);
    }
    // SAFETY: a stub passed the address of its slot in `SLOTS`.
    Onward::to(unsafe { (*slot).target() })
}
