#!/bin/bash
# The stages as jobs of their own, each after the one before: those that distil may then ask for more nodes.
#
#   slurm/stages.sh RECIPE DATA RUN [sbatch options of the jobs after teacher and student]      from the package's folder
#
# One run folder takes one job at a time, so the student's follows the teacher's.
set -euo pipefail
(($# >= 3)) || { echo "usage: slurm/stages.sh RECIPE DATA RUN [sbatch options]" >&2; exit 64; }
recipe=$1 data=$2 run=$3
shift 3
submit() { sbatch --parsable --kill-on-invalid-dep=yes "$@"; }
job=$(submit slurm/train.sbatch "$recipe" "$data" "$run" teacher)
echo "teacher $job"
job=$(submit --dependency="afterok:$job" slurm/train.sbatch "$recipe" "$data" "$run" student)
echo "student $job"
for stage in hadnet control adnet kdnet uhemis uhved; do
  job=$(submit --dependency="afterok:$job" "$@" slurm/train.sbatch "$recipe" "$data" "$run" "$stage")
  echo "$stage $job"
done
