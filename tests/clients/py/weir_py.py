"""The nats-py client against weir.

weir_py.py publish|consume OUT URL...
"""

import asyncio
import sys

import load


def main():
    what, rest = sys.argv[1], sys.argv[2:]
    asyncio.run(load.run(what, rest[0], rest[1:]))


main()
