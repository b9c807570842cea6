//! What reading and laying over promises.
