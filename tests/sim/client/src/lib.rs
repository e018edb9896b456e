//! Thin bindings to whatever CUDA driver the loader finds, for test programs.
