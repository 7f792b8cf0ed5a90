//! The tree of inodes, snapshots of open files, and a thin fuser layer with no logic.
