"""``python -m neuroalign``."""

from neuroalign.cli import script

if __name__ == "__main__":
    script()
