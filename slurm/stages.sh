#!/bin/bash
# The stages as jobs of their own, each as soon as those that it builds on are done, and after them the evaluation.
# Those that distil may ask for more nodes than teacher and student.
#
#   slurm/stages.sh RECIPE DATA RUN [sbatch options of all jobs but teacher and student]      from the package's folder
#
# Their lines come to one log.jsonl. Over NFS, where two nodes that append at the same moment may lose a line, the
# report's times may lack a step; nothing else is made of them.
# Where not all jobs have the same number of ranks the recipe must say how large a batch is.
set -euo pipefail
(($# >= 3)) || { echo "usage: slurm/stages.sh RECIPE DATA RUN [sbatch options]" >&2; exit 64; }
recipe=$1 data=$2 run=$3
shift 3

# submit AFTER …: AFTER are the jobs that must be done, 17:18, or none.
submit() {
  local after=$1
  shift
  sbatch --parsable ${after:+--dependency="afterok:$after" --kill-on-invalid-dep=yes} "$@"
}
# train STAGE AFTER [sbatch options]: sets `job`.
train() {
  local stage=$1 after=$2
  shift 2
  job=$(submit "$after" "$@" slurm/train.sbatch "$recipe" "$data" "$run" "$stage")
  echo "$stage $job"
}

train teacher ""
teacher=$job
train student ""
student=$job
all=$teacher:$student
for stage in hadnet adnet control kdnet uhemis uhved; do
  case $stage in
    hadnet | adnet) after=$teacher:$student ;;
    control) after=$student ;;
    kdnet) after=$teacher ;;
    *) after= ;;
  esac
  train "$stage" "$after" "$@"
  all+=:$job
done
job=$(submit "$all" "$@" slurm/study.sbatch "$recipe" "$data" "$run")
echo "evaluation $job"
