"""The nats-py client against weir: scenarios and load.

weir_py.py scenarios URL...
weir_py.py publish|consume OUT URL...
"""

import asyncio
import sys

import load
import scenarios


def main():
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "scenarios":
        asyncio.run(scenarios.run(rest))
    else:
        asyncio.run(load.run(what, rest[0], rest[1:]))


main()
