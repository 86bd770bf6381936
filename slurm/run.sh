#!/bin/bash
# Starts a command on all ranks of a job and, if it was stopped before its end, puts the job back into the queue. The
# batch scripts beside this one call it:
#
#   run.sh srun|mpirun FOLDER COMMAND…      without Slurm: mpirun with two ranks on this machine
#
# FOLDER is the run's, or the stage's for a job that trains one stage: there lies the mark `unfinished`.
set -uo pipefail
launcher=$1 folder=$2
shift 2

if [[ -z ${SLURM_JOB_ID-} ]]; then
  exec "$(dirname "$0")/../scripts/mpirun" -n 2 "$@"
fi
# What follows ends every script that `hadnet-dist slurm` prints as well.
threads=${SLURM_CPUS_PER_TASK:-1}
mark=$folder/unfinished
# Of a stage, of a plain run, and of the seeds of a study over several.
# `latest` is a link, or, where there are none, a text file.
checkpoints() {
  local latest
  for latest in "$folder"/{,*/,seed-*/*/}checkpoints/latest; do readlink "$latest" || cat "$latest"; done
}
before=$(checkpoints 2> /dev/null)
# A line for each start in a row that made no progress.
idle=$folder/idle
[[ -n ${SLURM_RESTART_COUNT-} ]] || rm -f "$idle"
is_running() { scontrol --oneliner show job "$SLURM_JOB_ID" | grep -q 'JobState=RUNNING '; }
put_back() {
  echo "job $SLURM_JOB_ID goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
}

# Runs the command on all ranks, as a step of the job; sets `code`.
run_step() {
  case $launcher in
    # pmix: without it the ranks do not find each other. kill-on-bad-exit: without it the others wait for ever when one
    # rank is killed, for want of memory for example. cpus-per-task: srun does not take it from sbatch.
    srun) srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task="$threads" "$@" --threads "$threads" & ;;
    # Slurm has given the cores; bound to one, a rank's threads would share it. In a session of its own no signal of a
    # terminal reaches it.
    mpirun) setsid mpirun --bind-to none -n "${SLURM_NTASKS:-1}" "$@" --threads "$threads" < /dev/null & ;;
    *) echo "run.sh: srun or mpirun, not $launcher" >&2; exit 64 ;;
  esac
  step=$!
  # A signal ends the wait before the step. Wait first: a step that ends at once has a code too.
  while wait $step; code=$?; kill -0 $step 2> /dev/null; do :; done
}
# Slurm's signals go to the step, or, with --signal=B:USR1, to this script, which passes them on: as USR1 to mpirun, which
# hands that to the ranks and would end them a moment after a TERM. `scancel JOB` sends TERM to mpirun itself: with mpirun
# `scancel --signal=TERM --batch JOB` stops a job with a checkpoint.
pass_on() {
  echo "SIG$1 came: the ranks are asked for a checkpoint"
  [[ $1 == USR1 || $launcher == mpirun ]] && kill -USR1 $step || kill -TERM $step
}
for name in USR1 TERM INT HUP; do trap "pass_on $name" $name; done
# Whether the program itself says that it would fail again: usage, data, files, a check, the disk, the recipe. srun may
# hide its code (143: it has ended the other ranks), so once the run has begun it also stands in the mark.
is_fault() { [[ $code =~ ^(64|65|66|70|74|78)$ ]] || grep --quiet '^fault' "$mark" 2> /dev/null; }
# The program writes the mark anew when it starts, and takes it away when all is done. A fault of an earlier job may be
# mended.
[[ -e $mark ]] && is_new= || is_new=1
# Another job may be at work in the folder: then this one is refused, and the mark is that job's.
kept=$(cat "$mark" 2> /dev/null)
mkdir -p "$folder" && echo "not started" > "$mark" || exit 74
has_started() { ! grep --quiet '^not started' "$mark" 2> /dev/null; }
# Stopped with a checkpoint, or by a signal that came before the ranks could handle it.
is_stopped() { [[ $code =~ ^(75|138|140)$ ]]; }
run_step "$@"
# On a node that lost power, a socket of this step's number may be left, and srun's pmix can't start it there; the next
# step has another number. srun may call that a success.
for ((again = 1; again < 3; again++)); do
  [[ $launcher == srun ]] && ! has_started && ! is_fault && ! is_stopped && is_running || break
  echo "the ranks did not start: trying again"
  run_step "$@"
done

# The mark says whether all is done, not the launcher: that may end with any code when a node is lost.
if [[ ! -e $mark ]]; then
  [[ $code == 0 ]] || echo "all was done before the launcher ended with code $code"
  rm -f "$idle"
  exit 0
elif [[ $code == 0 ]]; then
  echo "the launcher ended before all was done"
  code=1
fi
# What else ends a run before its end may not come again: a signal or the time limit (75), a rank or a node that was lost
# (srun says 137, 143 or its own), a stall (1). Whoever has made no progress in three starts in a row would not in a
# fourth.
if ! has_started && ! is_stopped && [[ $is_new ]]; then
  # Nothing was begun: nothing is left behind.
  rm -f "$mark"
  rmdir "$folder" 2> /dev/null
elif is_fault; then
  has_started || echo "$kept" > "$mark"
  rm -f "$idle"
elif ! is_running; then
  # Cancelled, or put back by Slurm itself: not ours to decide.
  :
elif [[ $(checkpoints 2> /dev/null) != "$before" ]]; then
  rm -f "$idle"
  put_back
elif echo "$SLURM_JOB_ID" >> "$idle"; (($(wc -l < "$idle") < 3)); then
  put_back
else
  echo "job $SLURM_JOB_ID made no progress in three starts: it does not go back into the queue"
  rm -f "$idle"
fi
exit $code
