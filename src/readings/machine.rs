//! Counters of the machine per CPU: `schedstat`, `softirqs`, `interrupts`.

use super::files::{accounted, cpus};
use super::reader::ReaderTime;
use super::subject::Subject;
use crate::host::{Host, HostError};
use crate::model::Policies;
use crate::{render, view};

/// `/proc/schedstat`.
pub(super) fn schedstat(
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let template = host.template("schedstat")?;
    let rate = host.jiffies_rate();
    if let (Some(rate), Some(record)) = (rate, subject.record()) {
        record.store().set_jiffies_rate(rate);
    }
    let (time, shown, account) = accounted(ReaderTime::Init, subject, host, policies)?;
    let age = view::uptime(&time, account.idle(), policies).uptime;
    render::schedstat(&template, rate, &shown, &account, age, out);
    Ok(())
}

/// `/proc/softirqs`.
pub(super) fn softirqs(
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let template = host.template("softirqs")?;
    let (_, shown) = cpus(subject, host, policies)?;
    render::softirqs(&template, &shown, policies.counters, out);
    Ok(())
}

/// `/proc/interrupts`.
pub(super) fn interrupts(
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let template = host.template("interrupts")?;
    let (_, shown) = cpus(subject, host, policies)?;
    render::interrupts(&template, &shown, policies.counters, out);
    Ok(())
}
