//! Pure: view -> bytes. One file per virtual file, one table that lists them all. No I/O, no unsafe.
