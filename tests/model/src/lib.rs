//! The protocols of the library that threads rely on, compiled from its own sources against the
//! atomics of model checkers: no copies, so what is checked is what runs.
//!
//! [`loomed`] runs under loom, which tries every order of a few threads in the C11 memory model;
//! [`unfenced`] is the same without the fences, to show that loom needs them; [`shuttled`] runs
//! under shuttle, which tries random orders of more threads.

pub mod loomed;
pub mod shuttled;
pub mod unfenced;
