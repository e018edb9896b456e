//! What is loaded: handles of modules, libraries and their kernels.

use crate::abi::{Handle, Outcome, code};
use crate::handles::Id;
use crate::image::{Image, KernelInfo};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What an image was loaded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In one context.
    Module,
    /// For all of them.
    Library,
    /// A library's module in one context.
    ModuleOf(usize),
}

impl Kind {
    fn is_library(self) -> bool {
        self == Kind::Library
    }
}

#[derive(Debug)]
struct Entry {
    id: Id,
    image: Arc<Image>,
    kind: Kind,
    /// Context of a module; 0 for libraries.
    ctx: usize,
}

/// A handle to one kernel of one image: what CUfunction and CUkernel point to.
#[derive(Debug)]
pub struct Function {
    id: Id,
    pub image: Arc<Image>,
    pub index: usize,
    /// A CUkernel, which is always a library's.
    pub kernel: bool,
    /// Module or library it was asked of.
    pub owner: usize,
}

impl Function {
    /// What is known of it.
    pub fn info(&self) -> &KernelInfo {
        &self.image.kernels[self.index]
    }
}

#[derive(Debug, Default)]
struct Loaded {
    entries: HashMap<usize, Entry>,
    functions: HashMap<usize, Arc<Function>>,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

fn insert(loaded: &mut Loaded, image: Arc<Image>, kind: Kind, ctx: usize) -> Handle {
    let id = Id::new();
    let handle = id.get();
    loaded.entries.insert(handle, Entry { id, image, kind, ctx });
    handle as Handle
}

/// Registers a loaded image; its handle.
pub fn add(image: Arc<Image>, kind: Kind, ctx: usize) -> Handle {
    insert(LOADED.lock().get_or_insert_default(), image, kind, ctx)
}

/// The image of a module or library handle.
pub fn find(handle: Handle, library: bool) -> Outcome<Arc<Image>> {
    crate::sim::ready()?;
    let loaded = LOADED.lock();
    let found = loaded.as_ref().and_then(|l| l.entries.get(&(handle as usize)));
    let found = found.filter(|e| e.kind.is_library() == library);
    found.map(|e| e.image.clone()).ok_or(code::INVALID_HANDLE)
}

/// A library's module in a context; the same one every time.
pub fn module_of(library: Handle, ctx: usize) -> Outcome<Handle> {
    let image = find(library, true)?;
    let mut loaded = LOADED.lock();
    let loaded = loaded.get_or_insert_default();
    let kind = Kind::ModuleOf(library as usize);
    let made = loaded.entries.values().find(|e| e.kind == kind && e.ctx == ctx);
    match made {
        Some(entry) => Ok(entry.id.get() as Handle),
        None => Ok(insert(loaded, image, kind, ctx)),
    }
}

/// The library of a function that was made from a kernel; `None` if its owner is a module.
pub fn library_of(function: &Function) -> Option<Handle> {
    let loaded = LOADED.lock();
    let owner = loaded.as_ref()?.entries.get(&function.owner)?;
    owner.kind.is_library().then_some(function.owner as Handle)
}

/// Unloads it; its functions end, and a library's modules with it.
pub fn unload(handle: Handle, library: bool) -> Outcome {
    find(handle, library)?;
    let mut loaded = LOADED.lock();
    let loaded = loaded.get_or_insert_default();
    let handle = handle as usize;
    if loaded.entries.get(&handle).is_some_and(|e| matches!(e.kind, Kind::ModuleOf(_))) {
        return Err(code::NOT_PERMITTED);
    }
    loaded.remove(|at, entry| at == handle || entry.kind == Kind::ModuleOf(handle));
    Ok(())
}

impl Loaded {
    fn remove(&mut self, which: impl Fn(usize, &Entry) -> bool) {
        self.entries.retain(|&at, entry| !which(at, entry));
        self.functions.retain(|_, f| self.entries.contains_key(&f.owner));
    }
}

/// A handle for a kernel of a module or library; the same one every time.
pub fn function(owner: Handle, index: usize, library: bool, kernel: bool) -> Outcome<Handle> {
    let image = find(owner, library)?;
    let mut loaded = LOADED.lock();
    let functions = &mut loaded.get_or_insert_default().functions;
    let same =
        |f: &&Arc<Function>| f.owner == owner as usize && f.index == index && f.kernel == kernel;
    if let Some(function) = functions.values().find(same) {
        return Ok(function.id.get() as Handle);
    }
    let id = Id::new();
    let handle = id.get();
    let function = Function { id, image, index, kernel, owner: owner as usize };
    functions.insert(handle, Arc::new(function));
    Ok(handle as Handle)
}

/// What a function or kernel handle means.
pub fn find_function(handle: Handle) -> Outcome<Arc<Function>> {
    crate::sim::ready()?;
    let loaded = LOADED.lock();
    let found = loaded.as_ref().and_then(|l| l.functions.get(&(handle as usize)));
    found.cloned().ok_or(code::INVALID_HANDLE)
}

/// The global of a loaded image that an address lies in.
pub fn global_containing(at: u64) -> Option<(u64, u64)> {
    let loaded = LOADED.lock();
    loaded.as_ref()?.entries.values().find_map(|e| e.image.global_containing(at))
}

/// A context ends with its modules.
pub fn context_gone(ctx: usize) {
    if let Some(loaded) = LOADED.lock().as_mut() {
        loaded.remove(|_, entry| entry.ctx == ctx);
    }
}

/// Modules and libraries that the program loaded and did not unload.
pub fn live() -> usize {
    let loaded = LOADED.lock();
    let entries = loaded.iter().flat_map(|l| l.entries.values());
    entries.filter(|e| !matches!(e.kind, Kind::ModuleOf(_))).count()
}
