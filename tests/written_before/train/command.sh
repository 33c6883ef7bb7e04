#!/bin/sh
# Trains with the configuration that autofit chose: plain DeepSpeed, no search.
# Writes into the folder named by the first argument (default: rerun, beside this script).
set -eu
cd "$(dirname "$0")"
out=${1:-rerun}
mkdir -p "$out"
export PATH=/opt/autofit/bin:"$PATH"
export DS_ACCELERATOR=cpu MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=1048576 MALLOC_TRIM_THRESHOLD_=1048576
exec /opt/autofit/bin/python -P -m deepspeed.launcher.runner \
  --hostfile /dev/null \
  --master_addr 127.0.0.1 \
  --num_gpus 2 \
  --module autofit.worker.train \
  --request request.json \
  --choice choice.json \
  --deepspeed_config ds_config.json \
  --device-kind cpu \
  --checkpoints "$out/checkpoints" \
  --model-out "$out/model" \
  --reports "$out" \
  --progress "$out/progress.jsonl" \
  --beat "$out/beat"
