//! Declares types that cross the kernel/user boundary.
//!
//! The invariant: every such type is `repr(C)`, has no padding and holds integers and arrays of
//! them only, so that a key hashes equally on both sides and any bit pattern is a value.

/// Declares ABI structs; a struct with padding does not compile.
macro_rules! abi {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident { $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )+ }
    )+) => { $(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name { $( $(#[$field_meta])* pub $field: $type, )+ }

        const _: () = assert!(
            size_of::<$name>() == 0 $( + size_of::<$type>() )+,
            concat!(stringify!($name), " has padding"),
        );

        #[cfg(feature = "user")]
        // SAFETY: `repr(C)` without padding (asserted above), and all fields are integers or
        // arrays of integers, so every bit pattern is valid and every byte is initialised.
        unsafe impl aya::Pod for $name {}
    )+ };
}

pub(crate) use abi;
