#!/bin/bash
# The three stages as jobs of their own, each after the one before: HAD-Net's may then ask for more nodes.
#
#   slurm/stages.sh RECIPE DATA RUN [sbatch options of HAD-Net's job]      from the package's folder
#
# One run folder takes one job at a time, so the student's follows the teacher's.
set -euo pipefail
(($# >= 3)) || { echo "usage: slurm/stages.sh RECIPE DATA RUN [sbatch options]" >&2; exit 64; }
recipe=$1 data=$2 run=$3
shift 3
submit() { sbatch --parsable --kill-on-invalid-dep=yes "$@"; }
teacher=$(submit slurm/train.sbatch "$recipe" "$data" "$run" teacher)
student=$(submit --dependency="afterok:$teacher" slurm/train.sbatch "$recipe" "$data" "$run" student)
hadnet=$(submit --dependency="afterok:$student" "$@" slurm/train.sbatch "$recipe" "$data" "$run" hadnet)
echo "teacher $teacher, student $student, HAD-Net $hadnet"
