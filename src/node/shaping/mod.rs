//! Shaping files from disk: which there are, what they say, and whether they have changed since; and what is
//! shown of it.

mod idle;
mod load;
mod sites;
mod stamp;
#[cfg(test)]
mod tests;
mod view;

pub use idle::without_effect;
pub use load::{LoadError, Loaded, Options, load};
pub use sites::{Atlas, Learned, to_ask};
pub use stamp::Stamps;
pub use view::{explanation_view, override_view};
