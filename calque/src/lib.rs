//! calque, the product, as a library: loaders for guest images and the guests that come with it.
#![forbid(unsafe_code)]

pub mod guests;
pub mod load;
