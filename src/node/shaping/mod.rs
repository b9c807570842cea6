//! Shaping files from disk: which there are, what they say, and whether they have changed since.

mod load;
mod sites;
mod stamp;
#[cfg(test)]
mod tests;

pub use load::{LoadError, Loaded, Options, load};
pub use sites::{Atlas, Learned, to_ask};
pub use stamp::Stamps;
