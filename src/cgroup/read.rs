//! Readings of a [`super::GroupSet`], one file per resource.

pub(super) mod cpu;
pub(super) mod cpuset;
pub(super) mod hugetlb;
pub(super) mod io;
pub(super) mod memory;
pub(super) mod pressure;
