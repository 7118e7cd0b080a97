//! Medians and how they are printed.

use std::time::Duration;

/// `12.3 ms (11.0 - 15.2)`.
pub(super) fn milliseconds(samples: &[Duration]) -> String {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let (Some(smallest), Some(largest), Some(median)) = (sorted.first(), sorted.last(), sorted.get(sorted.len() / 2))
    else {
        return "not measured".to_owned();
    };
    let shown = |duration: &Duration| format!("{:.1}", duration.as_secs_f64() * 1000.0);
    format!("{} ms ({} - {})", shown(median), shown(smallest), shown(largest))
}

/// From kibibytes.
pub(super) fn mebibytes(kibibytes: Option<u32>) -> String {
    kibibytes.map_or_else(|| "not measured".to_owned(), |value| format!("{:.1} MiB", f64::from(value) / 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_the_sorted_samples() {
        let samples: Vec<Duration> = [30, 10, 20].into_iter().map(Duration::from_millis).collect();
        assert_eq!(milliseconds(&samples), "20.0 ms (10.0 - 30.0)");
        assert_eq!(milliseconds(&[]), "not measured");
        assert_eq!(mebibytes(Some(1536)), "1.5 MiB");
    }
}
