//! What the gateway's process, or another one, has cost so far, as the system counts it.

use std::time::Duration;

use super::Gateway;

/// The system counts CPU time in ticks of this length.
const TICK: Duration = Duration::from_millis(10);

impl Gateway {
    /// The CPU time of all its threads.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.about("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("the fields behind the name");
        // Its own and the system's on its behalf: fields 14 and 15, of which the first two are gone.
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u32>().expect("a number"));
        TICK * ticks.sum()
    }

    /// The most memory that it ever had at once, in MiB.
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.process_id())
    }

    fn about(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process_id())).expect("it still runs")
    }
}

/// The most memory that a process ever had at once, in MiB.
pub fn peak_memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it still runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}
