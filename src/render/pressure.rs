//! `/proc/pressure/*`.

/// `/proc/pressure/cpu`: its `full` line is 0, since the kernel defines none for a whole machine (P8).
pub fn pressure_cpu(host: &str, own: &[u8], out: &mut Vec<u8>) {
    let own = String::from_utf8_lossy(own);
    let some = own.lines().find(|line| line.starts_with("some ")).unwrap_or_default();
    pressure(host, some.as_bytes(), out);
}

/// The lines and keys of the kernel's own file with the values of the group's (P1, P2); 0 where the group's file has
/// not that line or key, or says nothing that is a number (P3).
pub fn pressure(host: &str, own: &[u8], out: &mut Vec<u8>) {
    let own = std::str::from_utf8(own).unwrap_or_default();
    for line in host.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(kind) = words.next().filter(|kind| !kind.contains('=')) else { continue };
        let of_group = own.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).unwrap_or("");
        out.extend_from_slice(kind.as_bytes());
        for word in words {
            let Some((key, hosts)) = word.split_once('=') else { continue };
            let value = of_group.split_ascii_whitespace().find_map(|word| {
                let value = word.strip_prefix(key)?.strip_prefix('=')?;
                is_number(value).then_some(value)
            });
            let zero = if hosts.contains('.') { "0.00" } else { "0" };
            out.push(b' ');
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            out.extend_from_slice(value.unwrap_or(zero).as_bytes());
        }
        out.push(b'\n');
    }
}

/// Digits, with a point among them or without.
fn is_number(text: &str) -> bool {
    let mut parts = text.splitn(2, '.');
    parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "some avg10=36.31 avg60=11.55 avg300=7.78 total=2618892490\n\
        full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";

    fn text(host: &str, own: &str) -> String {
        let mut out = Vec::new();
        pressure(host, own.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn p1_the_groups_own_numbers() {
        let own = "some avg10=99.00 avg60=1.02 avg300=0.50 total=77\nfull avg10=0.10 avg60=0.20 avg300=0.30 total=5\n";
        assert_eq!(text(HOST, own), own);
    }

    #[test]
    fn p2_lines_and_keys_are_those_of_the_kernels_file() {
        let some = "some avg10=0.01 avg60=0.02 avg300=0.03 total=4\n";
        let full = "full avg10=0.05 avg60=0.06 avg300=0.07 total=8\n";
        let (only_some, _) = HOST.split_at(HOST.find("full").unwrap_or_default());
        assert_eq!(text(only_some, &format!("{some}{full}")), some);
        assert_eq!(text(HOST, some), format!("{some}full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"));
        assert_eq!(text("avg10=1.00 total=9\nsome\n", full), "some\n", "a line without a kind is none");
        assert_eq!(text("full avg10=1.00 new=3 total=9\n", full), "full avg10=0.05 new=0 total=8\n");
    }

    #[test]
    fn p8_no_full_pressure_of_a_machines_cpus() {
        let own = "some avg10=9.00 avg60=1.02 avg300=0.50 total=77\nfull avg10=0.10 avg60=0.20 avg300=0.30 total=5\n";
        let mut out = Vec::new();
        pressure_cpu(HOST, own.as_bytes(), &mut out);
        let expected = "some avg10=9.00 avg60=1.02 avg300=0.50 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn p3_zeros_where_the_group_says_nothing() {
        let zeros = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        for own in
            ["", "some\n", "some avg10= avg60=x avg300=1. total=.5\nfully avg10=1.00\n", "some total=-1\n"]
        {
            assert_eq!(text(HOST, own), zeros, "{own:?}");
        }
        let mut out = Vec::new();
        pressure(HOST, b"some avg10=1.00\xff\n", &mut out);
        assert_eq!(out, zeros.as_bytes());
    }
}
