//! What this process uses, as the kernel sees it.

use std::fs;
use std::time::Duration;

/// Without what is read here.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub descriptors: usize,
    pub threads: usize,
    /// Bytes that are not of files.
    pub memory: u64,
    pub children: usize,
}

impl Usage {
    pub fn now() -> Usage {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let memory = memory.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
        let of_each = |file: &str| -> Vec<String> {
            let tasks = fs::read_dir("/proc/self/task").unwrap();
            tasks
                .filter_map(|task| fs::read_to_string(task.unwrap().path().join(file)).ok())
                .collect()
        };
        let children = of_each("children");
        Usage {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count() - 1,
            threads: of_each("comm").len(),
            memory,
            children: children.iter().map(|of_one| of_one.split_whitespace().count()).sum(),
        }
    }
}

/// Processor time of the threads of the server, whose names are these.
pub fn processor_time(names: &[&str]) -> Duration {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let read = |file: &str| fs::read_to_string(task.as_ref().unwrap().path().join(file));
        let (Ok(name), Ok(times)) = (read("comm"), read("schedstat")) else { continue };
        if names.contains(&name.trim()) {
            nanos += times.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    Duration::from_nanos(nanos)
}
