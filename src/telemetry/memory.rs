//! How much memory the process really holds, as the kernel counts it.

/// The greatest resident size so far, in bytes (`VmHWM`); `None` where the
/// system does not tell.
#[must_use]
pub fn peak_rss_bytes() -> Option<u64> {
    status_field("VmHWM:")
}

/// The resident size now, in bytes (`VmRSS`); `None` where the system does not
/// tell.
#[must_use]
pub fn rss_bytes() -> Option<u64> {
    status_field("VmRSS:")
}

fn status_field(name: &str) -> Option<u64> {
    parse_field(&std::fs::read_to_string("/proc/self/status").ok()?, name)
}

fn parse_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_s_own_lines() {
        let status = "Name:\tx\nVmHWM:\t   61000 kB\nVmRSS:\t   123 kB\n";
        assert_eq!(parse_field(status, "VmHWM:"), Some(61_000 * 1024));
        assert_eq!(parse_field(status, "VmRSS:"), Some(123 * 1024));
        assert_eq!(parse_field(status, "VmSwap:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_a_peak_at_or_above_its_present_size() {
        let now = rss_bytes().unwrap_or_default();
        assert!(now > 0);
        assert!(peak_rss_bytes().unwrap_or_default() >= now / 2);
    }
}
