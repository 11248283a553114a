# shellcheck shell=bash
# Sourced by the scripts beside it: values of site.env, the environment of the job, and how the program is run.
#
#   die TEXT...             ends the job: wrong usage, exit code 2
#   take NAME ARGS...       takes --NAME VALUE out of ARGS: sets `value` (empty if it is not there) and the array `rest`
#   begin OUT TASK          run folder and name of this task, for its marker OUT/slurm/marks/TASK
#   devices             sets the array `per_device`: options of srun for one process on each device of the job
#   run SRUN_OPTIONS -- COMMAND ARGS...   runs `python -m vkdnw_pl COMMAND ARGS` as a step of the job; returns its exit code
#   end CODE                ends the job with CODE; 138 (SIGUSR1: the time limit is near) puts it back into the queue
#
# Slurm copies a script to its spool, so scripts find this file by VKDNW_SLURM_DIR or below the folder of submission.
set -euo pipefail

VKDNW_SLURM_DIR=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
STOPPED_BY_SIGUSR1=138

die() {
    printf '%s: error: %s\n' "${SCRIPT:-slurm}" "$*" >&2
    if [ -n "${_task:-}" ]; then _mark 2; fi
    exit 2
}

# ---- site.env; what the environment says wins
_given=$(for _name in "${!VKDNW_@}" "${!SBATCH_@}"; do declare -p "$_name"; done)
_site=${VKDNW_SITE_ENV:-$VKDNW_SLURM_DIR/site.env}
if [ -f "$_site" ]; then
    set -a
    # shellcheck disable=SC1090
    . "$_site"
    set +a
elif [ -n "${VKDNW_SITE_ENV:-}" ]; then
    die "VKDNW_SITE_ENV='$VKDNW_SITE_ENV': there is no such file"
fi
eval "$_given"

# ---- the environment of the job. Scripts of others rarely stand `set -u`.
set +u
if [ -n "${VKDNW_MODULES:-}" ]; then
    for _file in /etc/profile.d/lmod.sh /etc/profile.d/modules.sh /etc/profile.d/z00_lmod.sh; do
        if ! type module >/dev/null 2>&1 && [ -f "$_file" ]; then . "$_file"; fi
    done
    type module >/dev/null 2>&1 || die "VKDNW_MODULES='$VKDNW_MODULES', but there is no command 'module' on this machine"
    # shellcheck disable=SC2086
    module load $VKDNW_MODULES || die "module load $VKDNW_MODULES failed"
fi
if [ -n "${VKDNW_VENV:-}" ]; then
    [ -f "$VKDNW_VENV/bin/activate" ] || die "VKDNW_VENV='$VKDNW_VENV' is no virtual environment: it has no bin/activate"
    . "$VKDNW_VENV/bin/activate"
fi
if [ -n "${VKDNW_CONDA:-}" ]; then
    type conda >/dev/null 2>&1 || die "VKDNW_CONDA='$VKDNW_CONDA', but there is no command 'conda' (a module for VKDNW_MODULES?)"
    eval "$(conda shell.bash hook)"
    conda activate "$VKDNW_CONDA" || die "conda activate $VKDNW_CONDA failed"
fi
if [ -n "${VKDNW_SETUP:-}" ]; then
    eval "$VKDNW_SETUP" || die "VKDNW_SETUP='$VKDNW_SETUP' failed"
fi
set -u
eval "_program=(${VKDNW_CONTAINER:-} \"\${VKDNW_PYTHON:-python}\" -m vkdnw_pl)"
export PYTHONUNBUFFERED=1
# Slurm 22.05 and later no longer hands sbatch's --cpus-per-task on to srun.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

# ---- Slurm's SIGTERM is the program's: it stops in order, and this script waits for that.
trap : TERM

take() {
    local name=$1
    shift
    value='' rest=()
    while [ $# -gt 0 ]; do
        case $1 in
            "--$name")
                [ $# -ge 2 ] || die "--$name needs a value"
                value=$2
                shift
                ;;
            "--$name="*) value=${1#*=} ;;
            *) rest+=("$1") ;;
        esac
        shift
    done
}

begin() {
    _marks=$1/slurm/marks _task=$2 _began_at=$(date -u +%Y-%m-%dT%H:%M:%S+00:00)
    _mark
    printf '=== %s  job %s  restart %s  %s  on %s\n' "$_began_at" "$(job_name_in_queue)" "${SLURM_RESTART_COUNT:-0}" "$_task" \
        "${SLURMD_NODENAME:-$(hostname)}"
}

devices() {
    local nodes=${SLURM_JOB_NUM_NODES:-1} gpus=${SLURM_GPUS_ON_NODE:-0} cpus=${SLURM_CPUS_ON_NODE:-1}
    local tasks=${SLURM_NTASKS_PER_NODE:-}
    if [ -z "$tasks" ] && [ "${SLURM_NTASKS:-1}" -gt 1 ]; then
        [ $((SLURM_NTASKS % nodes)) = 0 ] ||
            die "$SLURM_NTASKS tasks cannot be the same number on each of $nodes nodes: give --ntasks-per-node"
        tasks=$((SLURM_NTASKS / nodes))
    fi
    if [ -z "$tasks" ]; then
        if [ "$gpus" -gt 0 ]; then tasks=$gpus; else tasks=1; fi
    fi
    [ "$gpus" = 0 ] || [ "$tasks" = "$gpus" ] ||
        die "$tasks task(s) per node, but $gpus GPU(s): there is one process for each; give --ntasks-per-node=$gpus"
    [ "$cpus" -ge "$tasks" ] ||
        die "$tasks processes per node, but only $cpus CPU(s): give --ntasks-per-node=$tasks --cpus-per-task=8, or --cpus-per-gpu=8"
    # --kill-on-bad-exit: when one process has died, the others wait for it in vain.
    per_device=(--nodes="$nodes" --ntasks=$((nodes * tasks)) --ntasks-per-node="$tasks" --cpus-per-task=$((cpus / tasks))
        --kill-on-bad-exit=1)
    # Each process must see all GPUs of its node, of which it takes the one with its number.
    if [ -n "${SLURM_GPUS_PER_TASK:-}" ]; then per_device+=(--gpu-bind=none); fi
}

job_name_in_queue() {
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
        echo "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    else
        echo "${SLURM_JOB_ID:-none}"
    fi
}

run() {
    local options=() code=0
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    # A restart goes on with what is there, also where the first start was to overwrite.
    if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
        local kept=()
        while [ $# -gt 0 ]; do
            case $1 in
                --overwrite) case ${2:-} in true | false) shift ;; esac ;;
                --overwrite=*) ;;
                *) kept+=("$1") ;;
            esac
            shift
        done
        set -- "${kept[@]}"
    fi
    # shellcheck disable=SC2086
    srun ${options[@]+"${options[@]}"} ${VKDNW_SRUN:-} "${_program[@]}" "$@" || code=$?
    return $code
}

end() {
    _mark "$1"
    if [ "$1" = $STOPPED_BY_SIGUSR1 ]; then _requeue; fi
    exit "$1"
}

# _mark [EXIT_CODE]: what `status` reads where Slurm remembers nothing of the job.
_mark() {
    mkdir -p "$_marks"
    {
        echo "job=$(job_name_in_queue)"
        echo "job_id=${SLURM_JOB_ID:-none}"
        echo "restarts=${SLURM_RESTART_COUNT:-0}"
        echo "node=${SLURMD_NODENAME:-$(hostname)}"
        echo "log=$(readlink "/proc/$$/fd/1" || true)"
        echo "began_at=$_began_at"
        if [ $# -gt 0 ]; then
            echo "ended_at=$(date -u +%Y-%m-%dT%H:%M:%S+00:00)"
            echo "exit_code=$1"
        fi
    } >"$_marks/.$_task.new"
    mv -f "$_marks/.$_task.new" "$_marks/$_task"
}

_requeue() {
    local job
    job=$(job_name_in_queue)
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "${VKDNW_MAX_RESTARTS:-100}" ]; then
        echo "$job was restarted ${SLURM_RESTART_COUNT:-0} times (VKDNW_MAX_RESTARTS): it is not put back into the queue" >&2
        return
    fi
    echo "$job stopped before its time limit; it goes back into the queue, and then on from here"
    scontrol requeue "$job" || echo "Slurm does not requeue $job: submit it again, and it goes on from here" >&2
}
