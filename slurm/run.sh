#!/bin/bash
# Starts a command on all ranks of a job and, if it was stopped before its end, puts the job back into the queue. The
# batch scripts beside this one call it:
#
#   run.sh srun|mpirun RUN COMMAND…      RUN is the run's folder; without Slurm: mpirun with two ranks on this machine
set -uo pipefail
launcher=$1 run=$2
shift 2

if [[ -z ${SLURM_JOB_ID-} ]]; then
  exec "$(dirname "$0")/../scripts/mpirun" -n 2 "$@"
fi
# What follows ends every script that `hadnet-dist slurm` prints as well.
threads=${SLURM_CPUS_PER_TASK:-1}
checkpoints() { readlink "$run"/*/checkpoints/latest; }
before=$(checkpoints 2> /dev/null)

case $launcher in
  # pmix: without it the ranks do not find each other. kill-on-bad-exit: without it the others wait for ever when one
  # rank is killed, for want of memory for example. cpus-per-task: srun does not take it from sbatch.
  srun) srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task="$threads" "$@" --threads "$threads" & ;;
  # Slurm has given the cores; bound to one, a rank's threads would share it.
  mpirun) mpirun --bind-to none -n "${SLURM_NTASKS:-1}" "$@" --threads "$threads" & ;;
  *) echo "run.sh: srun or mpirun, not $launcher" >&2; exit 64 ;;
esac
step=$!
# Slurm's signals go to the step, or, with --signal=B:USR1, to this script, which passes them on.
trap 'kill -USR1 $step' USR1
trap 'kill -TERM $step' TERM
code=0
while kill -0 $step 2> /dev/null; do
  wait $step
  code=$?
done

# 75: stopped by a signal or the time limit. srun says 143 where one rank ends a moment before the others. Whoever has
# made no progress would not make any the next time.
if [[ -e $run/unfinished && $code =~ ^(75|143)$ && $(checkpoints 2> /dev/null) != "$before" ]]; then
  echo "job $SLURM_JOB_ID goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
