//! Questions about stream capture while there is none, and the thread's capture mode.

use crate::case::{Case, Outcome, refused, same};
use crate::context::Cx;
use cuda_client::{Code, Stream, flag};

pub const CASES: &[Case] = &[
    Case::new("capture.none", "A stream that captures nothing says so, in every form.", none),
    Case::new("capture.default_streams", "Default streams answer too.", default_streams),
    Case::new(
        "capture.mode",
        "A thread's capture mode is GLOBAL at first, exchanged, and the thread's own.",
        mode,
    ),
    Case::new("capture.mode_unknown", "An unknown capture mode is refused.", mode_unknown),
];

fn none(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    same("capturing", cx.stream_is_capturing(*stream)?, flag::CAPTURE_NONE)?;
    same("info", cx.stream_capture_info(*stream)?.0, flag::CAPTURE_NONE)?;
    same("info v2", cx.stream_capture_info_v2(*stream)?.0, flag::CAPTURE_NONE)
}

fn default_streams(cx: &Cx) -> Outcome {
    for on in [Stream::NULL, Stream::LEGACY, Stream::PER_THREAD] {
        same("capturing", cx.stream_is_capturing(on)?, flag::CAPTURE_NONE)?;
    }
    Ok(())
}

fn mode(cx: &Cx) -> Outcome {
    let first = cx.exchange_capture_mode(flag::CAPTURE_RELAXED)?;
    let driver = cx.driver.clone();
    let other = std::thread::spawn(move || {
        let before = driver.exchange_capture_mode(flag::CAPTURE_THREAD_LOCAL);
        driver.exchange_capture_mode(flag::CAPTURE_GLOBAL).and(before)
    });
    let other = other.join().map_err(|_| crate::case::Stop::fail("the thread panicked"))?;
    let second = cx.exchange_capture_mode(first)?;
    same("at first", first, flag::CAPTURE_GLOBAL)?;
    same("exchanged", second, flag::CAPTURE_RELAXED)?;
    same("another thread's", other?, flag::CAPTURE_GLOBAL)
}

fn mode_unknown(cx: &Cx) -> Outcome {
    refused("mode 9", cx.exchange_capture_mode(9), Code::INVALID_VALUE)
}
