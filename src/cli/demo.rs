use super::{Result, args};
pub fn demo(_: &args::Demo) -> Result {
    Ok(std::process::ExitCode::SUCCESS)
}
