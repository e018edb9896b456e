//! A simulated CUDA driver: a `libcuda.so.1` that unmodified driver-API programs run on, without a
//! GPU. See README.md beside the manifest for what it is faithful to and what it is not.
#![allow(clippy::missing_safety_doc, reason = "the ABI is the driver's, documented there")]

mod abi;
mod api;
mod card;
mod clock;
mod context;
mod entry;
mod fatbin;
mod flip;
mod guard;
mod handles;
mod hash;
mod image;
mod loaded;
mod memory;
mod pools;
mod report;
mod resolve;
mod schedule;
mod settings;
mod share;
mod sim;
mod space;
mod stream;
mod trace;
mod work;
