"""A pool in a process of its own, for tests: lists the tools, calls each one of the arguments names, says all as JSON.

`python -m tests.tools.pool_alone FOLDER LOADING_S MODULE,MODULE TOOL…`
"""

from __future__ import annotations

import asyncio
import json
import sys

import msgspec
import setproctitle

from fusiond.config.schema import ToolsSettings
from fusiond.protocol.tools import ToolOutcome
from fusiond.tools.pool import Pool
from fusiond.tools.settings import ToolsConfig
from fusiond.tools.wire import Order


async def main() -> None:
    folder, loading_s, modules, *names = sys.argv[1:]
    setproctitle.setproctitle(
        "the tools of fusiond, alone"
    )  # else they are nobody's for a daemon that starts
    config = ToolsConfig(
        settings=ToolsSettings(modules=modules.split(",")),
        folder=folder,
        workspace=f"{folder}/workspace",
        run_dir=f"{folder}/run",
    )
    pool = Pool(config, float(loading_s))
    infos = (await pool.catalogue()).infos
    outcomes = [await pool.call(Order(name, b"{}"), 5.0) for name in names]
    await pool.close()
    said = {
        "problems": {info.name: info.problem for info in infos if info.problem},
        "names": [info.name for info in infos if not info.problem],
        "texts": [msgspec.msgpack.decode(outcome, type=ToolOutcome).text for outcome in outcomes],
        "left": pool.pids,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main())
