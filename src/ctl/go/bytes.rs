//! Sizes for people: decimal units, one decimal below ten.

/// `20 kB`, `2.1 GB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = (bytes as f64).log10().div_euclid(3.0) as usize;
    let exponent = exponent.min(UNITS.len() - 1);
    let scaled = bytes as f64 / 1000_f64.powi(exponent as i32);
    let rounded = (scaled * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent];
    if rounded < 10.0 {
        format!("{rounded:.1} {unit}")
    } else {
        format!("{rounded:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_read_as_in_etcd() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20480, "20 kB"),
            (65536, "66 kB"),
            (2147483648, "2.1 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(super::human(bytes), text);
        }
    }
}
