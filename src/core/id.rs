//! Interned names of configured things.
//!
//! An id is the index of its thing in the tables of one configuration generation, so it is cheap to copy, to compare
//! and to use as an index of per-model or per-channel state. Ids come from configuration only, never from a client:
//! this is what bounds the labels of metrics (spec 13.2).

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// The id of the thing at `index` of its table. Tables are bounded by the configuration, far below `u32::MAX`.
            #[must_use]
            pub fn new(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }

            /// The position in the table this id was made for.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )+};
}

ids! {
    /// A configured model.
    ModelId,
    /// A configured channel.
    ChannelId,
}
