//! The C interface: the functions of `coldpress.h` and those PyTorch's pluggable allocator takes.
//!
//! Owns: arguments, codes, texts, tags, and which instance of this library serves the process.
//! Never: how memory moves. Nothing here unwinds into the program.
//!
//! A reader's way through it: `instance` (who is called at all), `gate` (the way into the
//! engine), `api` with `tags`, `statistics` and `snapshot` (`coldpress.h`), `torch`.

mod api;
mod gate;
mod instance;
mod snapshot;
mod statistics;
mod status;
mod tags;
mod torch;
