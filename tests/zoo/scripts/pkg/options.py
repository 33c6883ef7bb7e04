"""The options of the package."""

import argparse

import deepspeed

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--steps", type=int)
options = deepspeed.add_config_arguments(parser).parse_args()
