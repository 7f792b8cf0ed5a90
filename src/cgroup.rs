//! What a group says: cgroup v1, hybrid and v2 behind one face.
