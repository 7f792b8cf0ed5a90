# tests/lib/parts.sh: the parts of tests/run. Sourced by tests/run. Every part prints `N passed, N failed` as its last line.

guest=/opt/ownproc-vm
vm() { tests/vm/run --copy "$bin/ownproc" --copy "$bin/ownproc-run" --copy "$bin/ownproc-e2e" "$@"; }

# The build is ours, the tests run as root: they make containers and cgroups.
unit() {
    local triple runner=() code
    if [ "$(id -u)" != 0 ]; then
        triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
        runner=("CARGO_TARGET_${triple}_RUNNER=sudo --preserve-env=$kept_environment")
    fi
    env "${runner[@]}" OWNPROC_FUZZ_SECONDS="${OWNPROC_FUZZ_SECONDS:-1}" cargo test --workspace --locked --no-fail-fast 2>&1 |
        tee "$log/cargo-test"
    code=${PIPESTATUS[0]}
    awk -v code="$code" '/^test result:/ { ok += $4; bad += $6; skipped += $8 }
        END { if (code && !bad) bad = 1; print ok + 0 " passed, " bad + 0 " failed, " skipped + 0 " skipped" }' "$log/cargo-test"
    return "$code"
}

licences() { /usr/bin/python3 tests/licences; }

quick() { as_root "$bin/ownproc-e2e" --only quick "${share[@]}"; }

e2e() { OWNPROC_CLIENTS_RECORD=$log/clients-here as_root "$bin/ownproc-e2e" "${selection[@]}"; }

# One machine runs one case after the other on one core, so two machines take little longer than one for half of the cases each.
# machines NAME SUITE LIMIT ARG...: runs the chosen cases in as many virtual machines as there are cores, at most two.
machines() {
    local name=$1 suite=$2 limit=$3 count=1 k pids=() code=0
    shift 3
    [ "$(nproc)" -lt 2 ] || [ "$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)" -lt 10 ] || count=2
    # A few cases by name are not worth a second boot.
    [ "$("$bin/ownproc-e2e" --list "$@" | wc -l)" -gt 8 ] || count=1
    for ((k = 1; k <= count; k++)); do
        mkdir -p "$log/$name-$k"
        : >"$log/$name-$k/said"
        OWNPROC_VM_SUITE=$suite OWNPROC_VM_LIMIT=$limit OWNPROC_VM_OUT=$log/$name-$k OWNPROC_CLIENTS_RECORD=/run/vm/out/clients \
            vm "$guest/ownproc-e2e" "$@" --part "$k/$count" >"$log/$name-$k/said" 2>&1 &
        pids+=($!)
    done
    for ((k = 1; k <= count; k++)); do
        tail --pid "${pids[k - 1]}" -n +1 -f "$log/$name-$k/said" | sed "s/^/machine $k: /"
        wait "${pids[k - 1]}" || { code=$?; echo "machine $k: exit code $code"; }
    done
    cat "$log/$name"-*/said | awk -v code="$code" '/^[0-9]+ passed, / { ok += $1; bad += $3; skipped += $5 }
        END { if (code && !bad) bad = 1; print ok + 0 " passed, " bad + 0 " failed, " skipped + 0 " skipped" }'
    return "$code"
}

virtual() { machines vm "${OWNPROC_VM_SUITE:-}" 3600 "${selection[@]}"; }

# The oldest kernel that is supported (README.md) is that of Debian 12.
oldest() { machines oldest bookworm 1200 --only quick "${share[@]}"; }

# The service under this machine's systemd: a boot of its own.
systemd() {
    OWNPROC_VM_SYSTEMD=1 OWNPROC_VM_BOOT=120 OWNPROC_VM_LIMIT=900 vm "$guest/ownproc-e2e" systemd packaging/systemd/ownproc.service
}

# Two boots of one kernel. What is compared is what the container was served: no list of files here.
twin() {
    local roots
    OWNPROC_VM_NODES=2 OWNPROC_VM_OUT=$log OWNPROC_VM_LIMIT=600 vm "$guest/ownproc-e2e" twin container /run/vm/out/container.json || return 1
    mapfile -t roots < <("$bin/ownproc-e2e" twin roots "$log/container.json")
    OWNPROC_VM_CPUS=2 OWNPROC_VM_MEMORY=1G OWNPROC_VM_NODES=1 OWNPROC_VM_OUT=$log OWNPROC_VM_LIMIT=600 tests/vm/run \
        --copy "$bin/ownproc-e2e" "$guest/ownproc-e2e" tool collect /run/vm/out/machine.json "${roots[@]}" || return 1
    "$bin/ownproc-e2e" twin compare "$log/container.json" "$log/machine.json" SEMANTICS.md
}

mutants() { /usr/bin/python3 tests/mutants/run "${share_of:-1/1}"; }
