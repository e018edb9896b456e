//! What a case is, and how it says that the driver did something else.

use cuda_client::{Code, LoadError};
use std::fmt::Debug;
use std::panic::Location;

use crate::context::Cx;

/// One expectation about a driver.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `area.what`.
    pub name: &'static str,
    /// The expectation as a sentence.
    pub expectation: &'static str,
    /// Card, driver and date of the first time a card was seen to behave so.
    pub seen_on: Option<&'static str>,
    /// Runs in a process of its own: it ruins its context, or must be first.
    pub isolated: bool,
    /// The case.
    pub run: fn(&Cx) -> Outcome,
}

impl Case {
    /// An expectation nobody has seen on a card yet.
    pub const fn new(
        name: &'static str,
        expectation: &'static str,
        run: fn(&Cx) -> Outcome,
    ) -> Self {
        Self { name, expectation, seen_on: None, isolated: false, run }
    }

    /// The same, behaved so on this card.
    pub const fn seen_on(self, card: &'static str) -> Self {
        Self { seen_on: Some(card), ..self }
    }

    /// The same in a process of its own.
    pub const fn isolated(self) -> Self {
        Self { isolated: true, ..self }
    }
}

/// The first card that was asked.
pub const H200: &str = "NVIDIA H200, driver 580.159.04, 2026-11-26";

/// How a case ended.
pub type Outcome = Result<(), Stop>;

/// Why a case ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It cannot be asked here.
    Skip(String),
    /// The driver did something else.
    Fail(String),
}

impl Stop {
    /// A failure at the caller's line.
    #[track_caller]
    pub fn fail(message: impl Into<String>) -> Stop {
        let at = Location::caller();
        Stop::Fail(format!("{} ({}:{})", message.into(), at.file(), at.line()))
    }

    /// Not to be asked here.
    pub fn skip(why: impl Into<String>) -> Stop {
        Stop::Skip(why.into())
    }
}

impl From<Code> for Stop {
    #[track_caller]
    fn from(code: Code) -> Stop {
        Stop::fail(format!("the driver answered {code}"))
    }
}

impl From<LoadError> for Stop {
    #[track_caller]
    fn from(error: LoadError) -> Stop {
        Stop::fail(error.0)
    }
}

/// `got` must be `wanted`.
#[track_caller]
pub fn same<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted {
        return Ok(());
    }
    Err(Stop::fail(format!("{what}: got {got:?}, wanted {wanted:?}")))
}

/// Something must hold.
#[track_caller]
pub fn holds(what: &str, truth: bool) -> Outcome {
    if truth { Ok(()) } else { Err(Stop::fail(format!("not so: {what}"))) }
}

/// A call must fail with this code.
#[track_caller]
pub fn refused<T: Debug>(what: &str, got: Result<T, Code>, wanted: Code) -> Outcome {
    match got {
        Err(code) if code == wanted => Ok(()),
        Err(code) => Err(Stop::fail(format!("{what}: got {code}, wanted {wanted}"))),
        Ok(value) => Err(Stop::fail(format!("{what}: succeeded ({value:?}), wanted {wanted}"))),
    }
}

/// Every element must be `wanted`.
#[track_caller]
pub fn all_same<T: PartialEq + Debug + Copy>(what: &str, got: &[T], wanted: T) -> Outcome {
    match got.iter().position(|&g| g != wanted) {
        None => Ok(()),
        Some(i) => Err(Stop::fail(format!("{what}: [{i}] is {:?}, wanted {wanted:?}", got[i]))),
    }
}
