"""The nats-py client against weir: scenarios and load.

weir_py.py scenarios NAMES URL...
weir_py.py publish|consume OUT URL...
"""

import asyncio
import sys

import load
import scenarios


def main():
    what, first, urls = sys.argv[1], sys.argv[2], sys.argv[3:]
    if what == "scenarios":
        # NAMES joined by commas, or empty for all.
        asyncio.run(scenarios.run([n for n in first.split(",") if n], urls))
    else:
        asyncio.run(load.run(what, first, urls))


main()
