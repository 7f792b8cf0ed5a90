//! Pure: levels -> effective limits and headroom; policy -> view. No I/O, no unsafe.
