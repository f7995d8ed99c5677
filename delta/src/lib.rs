//! Patches between images.
