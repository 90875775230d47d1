//! `process_*`: the crate's collector, with the processor's time in fractions of a second as other exporters give it.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};
use rustix::time::{ClockId, clock_gettime};

/// Collects `process_*` of this process.
pub struct Process(ProcessCollector);

impl Process {
    /// Of this process.
    pub fn this() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        let cpu = families.iter_mut().filter(|family| family.name() == "process_cpu_seconds_total");
        for metric in cpu.flat_map(|family| family.mut_metric()) {
            let mut counter = Counter::default();
            counter.set_value(cpu_seconds());
            metric.set_counter(counter);
        }
        families
    }
}

/// The time that all threads have spent in user and system mode.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_has_fractions_and_rises() {
        let process = Process::this();
        let read = || {
            let families = process.collect();
            let cpu = families.iter().find(|family| family.name() == "process_cpu_seconds_total").unwrap();
            cpu.get_metric()[0].get_counter().get_value()
        };
        let first = read();
        let spent = std::hint::black_box((0..2_000_000_u64).fold(0, |sum, n| sum ^ n.wrapping_mul(n)));
        let second = read();
        assert!(first > 0.0 && second > first && second < first + 60.0, "{first} {second} {spent}");
        assert!(second.fract() > 0.0);
    }
}
