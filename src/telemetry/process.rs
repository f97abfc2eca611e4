//! The usual metrics of a process, as every Prometheus client library exports them, and when its certificate expires.
//!
//! Linux tells them in `/proc/self`; what cannot be read there is not exported, so that no alert takes it for zero.

use super::metrics::Catalogue;
use prometheus::{Counter, Error, GaugeVec, IntGaugeVec};
use std::fs;

/// Ticks per second of the times in `/proc`: `USER_HZ`, which Linux keeps at 100 for all programs.
const TICKS: f64 = 100.0;
/// Series: five sizes and counts, processor time, the start, and the certificate.
pub(super) const SERIES: usize = 5 + 1 + 1 + 1;

/// The listener whose certificate is watched; there is one.
const PUBLIC: &str = "public";

/// The metrics of this process.
pub struct ProcessMetrics {
    cpu: Counter,
    threads: IntGaugeVec,
    open_fds: IntGaugeVec,
    max_fds: IntGaugeVec,
    resident: IntGaugeVec,
    virtual_size: IntGaugeVec,
    start: GaugeVec,
    certificate: IntGaugeVec,
}

impl ProcessMetrics {
    pub(super) fn new(new: &Catalogue) -> Result<Self, Error> {
        Ok(Self {
            cpu: new.counter_of_seconds(
                "process_cpu_seconds_total",
                "Processor time of this process in user and system mode, in seconds.",
            )?,
            threads: new.gauges("process_threads", "Threads of this process.", &[])?,
            open_fds: new.gauges("process_open_fds", "File descriptors that are open.", &[])?,
            max_fds: new.gauges("process_max_fds", "File descriptors that may be open.", &[])?,
            resident: new.gauges("process_resident_memory_bytes", "Memory in use, in bytes.", &[])?,
            virtual_size: new.gauges("process_virtual_memory_bytes", "Address space in use, in bytes.", &[])?,
            start: new.ratios(
                "process_start_time_seconds",
                "When this process began, in seconds since the Unix epoch.",
                &[],
            )?,
            certificate: new.gauges(
                "tidegate_certificate_expiry_timestamp_seconds",
                "When the certificate of the listener expires, in seconds since the Unix epoch; absent without TLS.",
                &["listener"],
            )?,
        })
    }

    /// Sets when the process began, in seconds since the Unix epoch.
    pub fn set_start(&self, seconds: f64) {
        self.start.with_label_values(NONE).set(seconds);
    }

    /// Sets when the certificate of the public listener expires, in seconds since the Unix epoch.
    pub fn set_certificate_expiry(&self, seconds: i64) {
        self.certificate.with_label_values(&[PUBLIC]).set(seconds);
    }

    /// Reads what Linux says of this process.
    pub(super) fn refresh(&self) {
        let set = |gauge: &IntGaugeVec, value: Option<i64>| {
            value.into_iter().for_each(|value| gauge.with_label_values(NONE).set(value));
        };
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        set(&self.threads, number_after(&status, "Threads:"));
        let kib = |name| number_after(&status, name).map(|kib| kib.saturating_mul(1_024));
        set(&self.resident, kib("VmRSS:"));
        set(&self.virtual_size, kib("VmSize:"));
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        set(&self.max_fds, number_after(&limits, "Max open files"));
        // The folder is open while it is read.
        let open = fs::read_dir("/proc/self/fd").ok().map(|listed| listed.count().saturating_sub(1));
        set(&self.open_fds, open.and_then(|open| i64::try_from(open).ok()));
    }
}

/// The values of no label.
const NONE: &[&str] = &[];

/// The processor time in `/proc/self/stat`: the 14th and 15th field, after a name in brackets that may have spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).map_while(|field| field.parse::<u32>().ok());
    Some((f64::from(ticks.next()?) + f64::from(ticks.next()?)) / TICKS)
}

/// The first number in the line that begins so.
fn number_after(text: &str, begin: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(begin))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    /// Goal: the files of Linux are read as they are, whatever the program is called.
    #[test]
    fn files_of_linux_are_read() {
        let stat = "71 (tide) gate (x) S 1 71 71 0 -1 4194560 9 0 0 0 250 150 0 0 20 0 7 0 42 1 2";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds("nonsense"), None);
        let limits =
            "Max cpu time  unlimited\nMax open files            1024                 524288     files\n";
        assert_eq!(number_after(limits, "Max open files"), Some(1024));
        assert_eq!(number_after("VmRSS:\t   12345 kB\n", "VmRSS:"), Some(12_345));
    }

    /// Goal: what is exported of this process is plausible, and the certificate is absent without TLS.
    #[test]
    fn this_process_is_measured() {
        let metrics = Metrics::new().unwrap();
        metrics.process().set_start(12.5);
        let text = String::from_utf8(metrics.render()).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6 && value("process_virtual_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0 && value("process_cpu_seconds_total") >= 0.0);
        assert_eq!(value("process_start_time_seconds"), 12.5);
        assert!(!text.contains("tidegate_certificate_expiry_timestamp_seconds{"));
    }
}
