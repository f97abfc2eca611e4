//! The locks and atomics of the limits and permits, named in one place.
//!
//! They are the standard library's. They stand here because `tests/schedules` compiles the same files with the locks and
//! atomics of a scheduler that tries thousands of interleavings: it brings a module of this name and its own contents.

pub(crate) use std::sync::atomic::{AtomicU32, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
