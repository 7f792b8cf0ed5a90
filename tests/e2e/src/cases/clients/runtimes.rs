//! What language runtimes and libraries tell the programs that are written with them.

use super::facts::{HOST_CPUS, SWAP};
use super::table::Verdict::{Right, WithCpuset};
use super::table::Want::{Is, Number};
use super::table::{AFFINITY, Program, Row, SYSINFO};
use super::take::{after, line, mebibytes};

const OWN_GROUP: &str = "reads the files of its group itself, where they are mounted";

/// A C program, compiled in the container: CPUs on-line and configured, pages.
const SYSCONF: &str = "cat >/tmp/clients/sysconf.c <<'C'
#include <stdio.h>
#include <unistd.h>
int main(void) {
    printf(\"%ld\\n%ld\\n%ld\\n\", sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_NPROCESSORS_CONF), sysconf(_SC_PHYS_PAGES));
}
C
cd /tmp/clients && musl-gcc -static sysconf.c -o sysconf && ./sysconf";

const OPENMP: &str = "cat >/tmp/clients/openmp.c <<'C'
#include <omp.h>
#include <stdio.h>
int main(void) { printf(\"%d\\n\", omp_get_max_threads()); }
C
cd /tmp/clients && gcc -fopenmp openmp.c -o openmp && ./openmp";

const PYTHON: &str = "/usr/bin/python3 -c 'import os
print(os.cpu_count(), len(os.sched_getaffinity(0)), os.sysconf(\"SC_PHYS_PAGES\"), sep=\"\\n\")'";

const PSUTIL: &str = "/usr/bin/python3 -c 'import psutil
memory = psutil.virtual_memory()
print(memory.total, psutil.swap_memory().total, psutil.cpu_count(), psutil.cpu_count(logical=False), sep=\"\\n\")
print(len(psutil.cpu_times(percpu=True)), 0 <= memory.available <= memory.total, sep=\"\\n\")'";

const NODE: &str = "node -e 'const os = require(\"os\")
console.log([os.totalmem(), os.freemem() <= os.totalmem(), os.cpus().length, os.availableParallelism()].join(\"\\n\"))'";

pub const PROGRAMS: &[Program] = &[
    Program {
        name: "musl sysconf",
        package: "musl-tools",
        script: SYSCONF,
        rows: &[
            Row::new("_SC_NPROCESSORS_ONLN", |text| line(text, 0), Is("1"))
                .but(WithCpuset(HOST_CPUS, AFFINITY)),
            Row::new("_SC_NPROCESSORS_CONF", |text| line(text, 1), Is("1"))
                .but(WithCpuset(HOST_CPUS, AFFINITY)),
            Row::new("_SC_PHYS_PAGES", |text| line(text, 2), Is("131072")).but(Right(SYSINFO)),
        ],
    },
    Program {
        name: "OpenMP (libgomp)",
        package: "libgomp1",
        script: OPENMP,
        rows: &[Row::new("omp_get_max_threads", |text| line(text, 0), Is("1"))
            .but(WithCpuset(HOST_CPUS, AFFINITY))],
    },
    Program {
        name: "jemalloc",
        package: "libjemalloc2",
        script: "MALLOC_CONF=stats_print:true LD_PRELOAD=libjemalloc.so.2 /bin/true",
        rows: &[Row::new("arenas", |text| after(text, "opt.narenas:"), Is("1")).but(WithCpuset(
            Number("4 for each CPU of the host", |facts| {
                let arenas = 4.0 * facts.host_cpus as f64;
                arenas..=arenas
            }),
            AFFINITY,
        ))],
    },
    Program {
        name: "Rust std",
        package: "",
        script: "/e2e/ownproc-e2e tool parallelism",
        rows: &[Row::new("available_parallelism", |text| line(text, 0), Is("1")).but(Right(OWN_GROUP))],
    },
    Program {
        name: "CPython",
        package: "python3",
        script: PYTHON,
        rows: &[
            Row::new("os.cpu_count", |text| line(text, 0), Is("1")),
            Row::new("os.sched_getaffinity", |text| line(text, 1), Is("1"))
                .but(WithCpuset(HOST_CPUS, AFFINITY)),
            Row::new("os.sysconf SC_PHYS_PAGES", |text| line(text, 2), Is("131072")).but(Right(SYSINFO)),
        ],
    },
    Program {
        name: "psutil",
        package: "python3-psutil",
        script: PSUTIL,
        rows: &[
            Row::new("virtual_memory().total", |text| line(text, 0), Is("536870912")),
            Row::new("swap_memory().total", |text| line(text, 1), SWAP),
            Row::new("cpu_count()", |text| line(text, 2), Is("1")),
            Row::new("cpu_count(logical=False)", |text| line(text, 3), Is("1")),
            Row::new("CPUs of cpu_times", |text| line(text, 4), Is("1")),
            Row::new("available within total", |text| line(text, 5), Is("True")),
        ],
    },
    Program {
        name: "node",
        package: "nodejs",
        script: NODE,
        rows: &[
            Row::new("os.totalmem", |text| line(text, 0), Is("536870912")),
            Row::new("os.freemem within it", |text| line(text, 1), Is("true")),
            Row::new("os.cpus", |text| line(text, 2), Is("1")),
            Row::new("os.availableParallelism", |text| line(text, 3), Is("1"))
                .but(WithCpuset(HOST_CPUS, AFFINITY)),
        ],
    },
    Program {
        name: "java",
        package: "openjdk-17-jre-headless",
        script: "java -Xint -Xlog:gc+init -version",
        rows: &[
            Row::new("available CPUs", |text| after(text.split_once("CPUs:")?.1, "total,"), Is("1"))
                .but(Right(OWN_GROUP)),
            Row::new("memory, MiB", |text| mebibytes(&after(text, "Memory:")?), Is("512"))
                .but(Right(OWN_GROUP)),
            Row::new("largest heap, MiB", |text| mebibytes(&after(text, "Heap Max Capacity:")?), Is("128"))
                .but(Right(OWN_GROUP)),
        ],
    },
    Program {
        name: "java without the files of its group",
        package: "openjdk-17-jre-headless",
        script: "java -Xint -Xlog:gc+init -XX:-UseContainerSupport -version",
        rows: &[
            Row::new("CPUs in all", |text| after(text, "CPUs:"), Is("1")),
            Row::new("available CPUs", |text| after(text.split_once("CPUs:")?.1, "total,"), Is("1"))
                .but(WithCpuset(HOST_CPUS, AFFINITY)),
            Row::new("memory, MiB", |text| mebibytes(&after(text, "Memory:")?), Is("512"))
                .but(Right(SYSINFO)),
        ],
    },
];
