"""From files to results: the steps behind the commands, and the recipes that run them."""

from neuroalign.pipeline.bench import bench
from neuroalign.pipeline.demo import run_demo
from neuroalign.pipeline.inspect import inspect
from neuroalign.pipeline.options import DecodeOptions, EncodeOptions, RSAOptions
from neuroalign.pipeline.recipe import read_recipe, run_recipe
from neuroalign.pipeline.steps import Outcome, decode, encode, rsa

__all__ = [
    "DecodeOptions",
    "EncodeOptions",
    "Outcome",
    "RSAOptions",
    "bench",
    "decode",
    "encode",
    "inspect",
    "read_recipe",
    "rsa",
    "run_demo",
    "run_recipe",
]
