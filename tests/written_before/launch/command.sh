#!/bin/sh
# Starts the script with the configuration that autofit chose: plain DeepSpeed, no search.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd /srv/run
exec /opt/autofit/bin/python -P -m deepspeed.launcher.runner --num_gpus 2 --module autofit.worker.entry eyJ0eXBlIjogIkVudHJ5IiwgInR1cm5zIjogeyJ0eXBlIjogIlR1cm5zIiwgImdyYWRpZW50X2NoZWNrcG9pbnRpbmciOiBudWxsLCAiYXR0ZW50aW9uIjogbnVsbH0sICJraW5kIjogImNwdSIsICJpc19tb2R1bGUiOiBmYWxzZSwgIm1lbW9yeV9saW1pdF9ieXRlcyI6IDc3MDAwMDAwMH0= examples/deepspeed/plain_loop.py --deepspeed_config "$here"/ds_config.json --steps 6 --output_dir out_plain
