//! Loading the library, finding the driver, living and ending with a program: seen from outside,
//! by programs that know nothing but the driver's interface.

mod driver;
mod life;
#[path = "../support/mod.rs"]
mod support;
mod ways;
