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

# A line is a stage and those that it begins with.
stages=$("${HADNET_DIST:-.build/release/hadnet-dist}" stages)
begun=" $(cut -s -d ' ' -f 2- <<<"$stages" | tr '\n' ' ')"
declare -A jobs
all=
while read -r stage needs; do
  after=
  for earlier in $needs; do after+=${after:+:}${jobs[$earlier]}; done
  # What others wait for is small.
  if [[ $begun == *" $stage "* ]]; then train "$stage" "$after"; else train "$stage" "$after" "$@"; fi
  jobs[$stage]=$job
  all+=${all:+:}$job
done <<<"$stages"
job=$(submit "$all" "$@" slurm/study.sbatch "$recipe" "$data" "$run")
echo "evaluation $job"
