//! Mail in: pumps bytes into the server session of `core/smtp` and carries its actions out. Holds
//! no mail logic.

mod backlog;
mod door;
mod pending;
mod rejections;
mod session;

pub use backlog::Backlog;
pub use door::{Door, Doorway};
pub use pending::Pending;
pub use rejections::Rejections;
pub use session::{Intake, Labeller, READ_OCTETS, Stage};
