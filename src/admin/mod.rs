//! (admin)
