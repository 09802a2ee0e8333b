//! The names that cAdvisor made known.

use crate::api::MetricType;
use crate::api::MetricType::{Counter, Gauge};

/// Labels of every metric; some have more.
pub(super) const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// A line of [`TABLE`].
pub(super) type Row = (
    &'static str,
    MetricType,
    &'static [&'static str],
    &'static str,
);

const DEVICE: &[&str] = &["device", "major", "minor", "operation"];
const INTERFACE: &[&str] = &["interface"];

/// Everything there is: name, kind, further labels, what it is. A line each, which the formatter would break.
#[rustfmt::skip]
pub(super) const TABLE: [Row; 56] = [
    ("container_blkio_device_usage_total", Counter, DEVICE, "Bytes read from and written to block devices"),
    ("container_cpu_cfs_periods_total", Counter, &[], "Periods of the CPU quota that have passed"),
    ("container_cpu_cfs_throttled_periods_total", Counter, &[], "Periods in which the CPU quota was used up"),
    ("container_cpu_cfs_throttled_seconds_total", Counter, &[], "Time waited for the CPU quota"),
    ("container_cpu_system_seconds_total", Counter, &[], "CPU time used in the kernel"),
    ("container_cpu_usage_seconds_total", Counter, &["cpu"], "CPU time used"),
    ("container_cpu_user_seconds_total", Counter, &[], "CPU time used in user space"),
    ("container_file_descriptors", Gauge, &[], "Open descriptors"),
    ("container_fs_inodes_free", Gauge, &["device"], "Free inodes of the file system of the writable layer"),
    ("container_fs_inodes_total", Gauge, &["device"], "Inodes of the file system of the writable layer"),
    ("container_fs_limit_bytes", Gauge, &["device"], "Size of the file system of the writable layer"),
    ("container_fs_reads_bytes_total", Counter, &["device"], "Bytes read from block devices"),
    ("container_fs_reads_total", Counter, &["device"], "Reads from block devices"),
    ("container_fs_usage_bytes", Gauge, &["device"], "Size of the writable layer"),
    ("container_fs_writes_bytes_total", Counter, &["device"], "Bytes written to block devices"),
    ("container_fs_writes_total", Counter, &["device"], "Writes to block devices"),
    ("container_hugetlb_max_usage_bytes", Gauge, &["pagesize"], "Most huge pages that were used"),
    ("container_hugetlb_usage_bytes", Gauge, &["pagesize"], "Huge pages that are used"),
    ("container_last_seen", Gauge, &[], "When these numbers were taken, in seconds since 1970"),
    ("container_memory_cache", Gauge, &[], "Page cache"),
    ("container_memory_failcnt", Counter, &[], "How often the limit of memory was met"),
    ("container_memory_failures_total", Counter, &["failure_type", "scope"], "Page faults"),
    ("container_memory_kernel_usage", Gauge, &[], "Memory of the kernel"),
    ("container_memory_mapped_file", Gauge, &[], "Files that are mapped"),
    ("container_memory_max_usage_bytes", Gauge, &[], "Most memory that was used"),
    ("container_memory_rss", Gauge, &[], "Anonymous memory"),
    ("container_memory_swap", Gauge, &[], "Swap that is used"),
    ("container_memory_usage_bytes", Gauge, &[], "Memory that is used, with the page cache"),
    ("container_memory_working_set_bytes", Gauge, &[], "Memory that is used, without inactive page cache"),
    ("container_network_receive_bytes_total", Counter, INTERFACE, "Bytes received"),
    ("container_network_receive_errors_total", Counter, INTERFACE, "Errors at receiving"),
    ("container_network_receive_packets_dropped_total", Counter, INTERFACE, "Packets dropped at receiving"),
    ("container_network_receive_packets_total", Counter, INTERFACE, "Packets received"),
    ("container_network_transmit_bytes_total", Counter, INTERFACE, "Bytes sent"),
    ("container_network_transmit_errors_total", Counter, INTERFACE, "Errors at sending"),
    ("container_network_transmit_packets_dropped_total", Counter, INTERFACE, "Packets dropped at sending"),
    ("container_network_transmit_packets_total", Counter, INTERFACE, "Packets sent"),
    ("container_oom_events_total", Counter, &[], "Processes killed for lack of memory"),
    ("container_pressure_cpu_stalled_seconds_total", Counter, &[], "Time that all waited for a CPU"),
    ("container_pressure_cpu_waiting_seconds_total", Counter, &[], "Time that some waited for a CPU"),
    ("container_pressure_io_stalled_seconds_total", Counter, &[], "Time that all waited for input or output"),
    ("container_pressure_io_waiting_seconds_total", Counter, &[], "Time that some waited for input or output"),
    ("container_pressure_memory_stalled_seconds_total", Counter, &[], "Time that all waited for memory"),
    ("container_pressure_memory_waiting_seconds_total", Counter, &[], "Time that some waited for memory"),
    ("container_processes", Gauge, &[], "Processes"),
    ("container_sockets", Gauge, &[], "Open sockets"),
    ("container_spec_cpu_period", Gauge, &[], "Period of the CPU quota in microseconds"),
    ("container_spec_cpu_quota", Gauge, &[], "CPU quota in microseconds a period"),
    ("container_spec_cpu_shares", Gauge, &[], "Share of the CPUs"),
    ("container_spec_memory_limit_bytes", Gauge, &[], "Limit of memory; 0 for none"),
    ("container_spec_memory_reservation_limit_bytes", Gauge, &[], "Memory that is protected; 0 for none"),
    ("container_spec_memory_swap_limit_bytes", Gauge, &[], "Limit of memory and swap; 0 for none"),
    ("container_start_time_seconds", Gauge, &[], "When it was started, in seconds since 1970"),
    ("container_threads", Gauge, &[], "Tasks"),
    ("container_threads_max", Gauge, &[], "Limit of tasks; 0 for none"),
    ("container_ulimits_soft", Gauge, &["ulimit"], "Soft limits of the first process"),
];
