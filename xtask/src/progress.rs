//! What a person sees while the tool works: headings, remarks and elapsed time, all on standard error so that standard output stays for results.

use std::time::{Duration, Instant};

/// A heading that starts a step.
pub(crate) fn heading(text: &str) {
    eprintln!("\n== {text}");
}

/// A remark within a step.
pub(crate) fn note(text: &str) {
    eprintln!("   {text}");
}

/// `83 s` below two minutes, `4 min 10 s` above, one decimal below ten seconds.
pub(crate) fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 10 {
        format!("{:.1} s", duration.as_secs_f64())
    } else if seconds < 120 {
        format!("{seconds} s")
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

/// The same for the time since `start`.
pub(crate) fn since(start: Instant) -> String {
    elapsed(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_is_short() {
        for (millis, text) in
            [(0, "0.0 s"), (9_940, "9.9 s"), (10_400, "10 s"), (119_000, "119 s"), (250_000, "4 min 10 s")]
        {
            assert_eq!(elapsed(Duration::from_millis(millis)), text);
        }
    }
}
