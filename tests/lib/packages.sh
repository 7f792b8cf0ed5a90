# tests/lib/packages.sh: which Debian packages the parts of tests/run need, and their installation. Sourced by tests/run.

# PROGRAM:PACKAGE of the end-to-end cases. The quick ones need the first list only.
quick_programs=(free:procps ps:procps busybox:busybox unshare:util-linux setpriv:util-linux)
all_programs=(
    "${quick_programs[@]}"
    top:procps vmstat:procps uptime:procps pgrep:procps lscpu:util-linux lsmem:util-linux nsenter:util-linux
    less:less hostname:hostname getconf:libc-bin cmp:diffutils script:bsdutils mawk:mawk xz:xz-utils zstd:zstd
    runc:runc podman:podman containerd:containerd /usr/bin/docker:docker.io dockerd:docker.io
    mpstat:sysstat htop:htop atop:atop nmon:nmon dstat:dstat collectl:collectl glances:glances
    prometheus-node-exporter:prometheus-node-exporter lstopo-no-graphics:hwloc-nox numactl:numactl
    node:nodejs java:default-jre-headless ninja:ninja-build musl-gcc:musl-tools
)
vm_programs=(mke2fs:e2fsprogs objcopy:binutils xz:xz-utils systemctl:systemd)

# missing_packages PART...: prints the packages that this machine lacks for these parts, one a line.
missing_packages() {
    local part programs=(cc:gcc)
    for part in "$@"; do
        case $part in
            licences | mutants) programs+=(/usr/bin/python3:python3) ;;
            quick) programs+=("${quick_programs[@]}") ;;
            e2e) programs+=("${all_programs[@]}" /usr/bin/python3:python3) ;;
            vm | oldest) programs+=("${all_programs[@]}" "${vm_programs[@]}" /usr/bin/python3:python3) ;;
            systemd | twin) programs+=("${vm_programs[@]}") ;;
        esac
    done
    {
        for pair in "${programs[@]}"; do command -v "${pair%:*}" >/dev/null || echo "${pair#*:}"; done
        echo 'int main(void){return 0;}' | cc -x c -o /dev/null - 2>/dev/null || echo libc6-dev
        case " $* " in
            *" e2e "* | *" vm "* | *" oldest "*)
                /usr/bin/python3 -c 'import psutil' 2>/dev/null || echo python3-psutil
                ldconfig -p | grep -q 'libjemalloc\.so\.2' || echo libjemalloc2
                ;;
        esac
        case " $* " in
            *" vm "* | *" oldest "* | *" systemd "* | *" twin "*)
                [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
                ;;
        esac
    } | sort -u
}

# install_packages PACKAGE...: says what it installs, then does it.
install_packages() {
    local size units
    command -v apt-get >/dev/null || die "missing: $*; without apt-get, install the programs of tests/lib/packages.sh by hand"
    as_root apt-get -qq update || die "apt-get update failed: see above"
    size=$(as_root apt-get install --no-install-recommends --assume-no "$@" 2>/dev/null | sed -n 's/^Need to get \(.*\) of archives.*/\1/p')
    say "installs $* (${size:-already downloaded})"
    as_root apt-get -qq install -y --no-install-recommends "$@" >/dev/null || die "apt-get install $* failed: see above"
    # Monitors come with services: the tests need the programs only.
    if [ -d /run/systemd/system ]; then
        units=$(dpkg -L "$@" | sed -n 's|.*/systemd/system/\([^/@]*\.\(service\|timer\|socket\)\)$|\1|p')
        [ -z "$units" ] || as_root systemctl --quiet disable --now $units || say "disable these services by hand: $units"
    fi
}
