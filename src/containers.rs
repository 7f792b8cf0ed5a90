//! Who is registered; reader -> container.
