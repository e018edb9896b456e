//! The simulated driver's own tests. Settings are read once in a process, so whatever needs some
//! runs in a process of its own: the test starts itself again.

mod control;
mod devices;
mod faults;
mod gpu;
mod memory;
mod modules;
mod own_kernels;
mod processes;
mod resolve;
mod streams;
mod vmm;
