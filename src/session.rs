//! Mounting, serving and ending: the life of one mount point.
