//! bpf(2): a program for a group of v2. Needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN.

use std::ffi::{CStr, c_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::Instruction;

/// Commands.
const PROG_LOAD: c_long = 5;
const PROG_ATTACH: c_long = 8;
const PROG_DETACH: c_long = 9;
const PROG_GET_FD_BY_ID: c_long = 13;
const PROG_QUERY: c_long = 16;

/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACH_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: groups below may have programs too, and all of them must agree.
const ALLOW_MULTI: u32 = 1 << 1;
/// Most programs that the kernel attaches to one group.
const PROGRAMS_MAX: usize = 64;
/// The program calls no helper, so any licence does.
const LICENSE: &CStr = c"MIT";

/// The start of what PROG_LOAD takes; the rest counts as 0.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// What PROG_ATTACH and PROG_DETACH take.
#[repr(C)]
#[derive(Default)]
struct Attach {
    group: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// What PROG_QUERY takes and gives. As long as the kernel's is to its last field: newer kernels write that one
/// whatever length they are told.
#[repr(C)]
#[derive(Default)]
struct Query {
    group: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// What PROG_GET_FD_BY_ID takes.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Gives the group this program in place of those that it has itself; programs of the groups above stay in force.
/// There is no moment without one: old ones go after the new one is there.
pub fn attach(program: &[Instruction], group: BorrowedFd) -> io::Result<()> {
    let older = attached(group)?;
    let program = load(program)?;
    attach_or_detach(PROG_ATTACH, program.as_fd(), group, ALLOW_MULTI)?;
    for id in older {
        let old = match by_id(id) {
            Ok(old) => old,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue, // gone meanwhile
            Err(error) => return Err(error),
        };
        match attach_or_detach(PROG_DETACH, old.as_fd(), group, 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Numbers of the programs that the group itself has.
fn attached(group: BorrowedFd) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; PROGRAMS_MAX];
    let mut query = Query {
        group: number(group),
        attach_type: ATTACH_DEVICE,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: PROGRAMS_MAX as u32,
        ..Query::default()
    };
    // SAFETY: `ids` has room for `count` numbers, is written by nobody else and outlives the call.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    let count = usize::try_from(query.count).unwrap_or(PROGRAMS_MAX).min(PROGRAMS_MAX);
    Ok(ids.into_iter().take(count).collect())
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let count = u32::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let mut load = Load {
        program_type: TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        ..Load::default()
    };
    // SAFETY: both pointers are to memory that outlives the call, of the given length or ended by a zero byte.
    let fd = unsafe { bpf(PROG_LOAD, &mut load) }?;
    owned(fd)
}

fn by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: the structure has no pointers.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() }) }?;
    owned(fd)
}

fn attach_or_detach(command: c_long, program: BorrowedFd, group: BorrowedFd, flags: u32) -> io::Result<()> {
    let mut attach =
        Attach { group: number(group), program: number(program), attach_type: ATTACH_DEVICE, flags };
    // SAFETY: the structure has no pointers.
    unsafe { bpf(command, &mut attach) }.map(drop)
}

/// The call itself.
///
/// # Safety
///
/// Pointers among the attributes are good for what the command does with them, until it returns. `Attributes` is the
/// command's structure, at least to the last field that the kernel writes.
unsafe fn bpf<Attributes>(command: c_long, attributes: &mut Attributes) -> io::Result<c_long> {
    // SAFETY: the kernel reads and writes the structure within its length; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<Attributes>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A descriptor that the kernel has just made; it sets close-on-exec on these.
fn owned(fd: c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call returned it as a new descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor as the attributes carry it: never negative.
fn number(fd: BorrowedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
