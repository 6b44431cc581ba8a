"""One aioice agent, introduced over standard input and output in the lines of `gimlet ice-peer`.

Prints `ufrag`, `pwd`, `cand`..., `end`; reads the same and `start`; prints `state connected`, the role that
it ended with as `role`, and `recv <hex>`; reads `send <hex>` and `quit`.
"""

import argparse
import asyncio
import sys

import aioice


def say(*words):
    print(*words, flush=True)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--controlling", action="store_true")
    parser.add_argument("--peer-is-lite", action="store_true")
    parser.add_argument("--stun", metavar="HOST:PORT")
    parser.add_argument("--turn", metavar="HOST:PORT", help="alice's relay")
    parser.add_argument("--turn-transport", choices=["udp", "tcp"], default="udp")
    parser.add_argument("--relay-only", action="store_true")
    parser.add_argument("--patience", metavar="SECONDS", type=float, default=60)
    return parser.parse_args()


async def connect(connection, patience):
    try:
        await asyncio.wait_for(connection.connect(), patience)
    except (ConnectionError, asyncio.TimeoutError) as error:
        say("state failed", str(error) or "no answer in time")
        return
    say("role", "controlling" if connection.ice_controlling else "controlled")
    say("state connected")
    try:
        while True:
            say("recv", (await connection.recv()).hex())
    except ConnectionError:
        pass


async def hear(connection, line, patience):
    """Does what a line says; returns the task that it started, if it did."""
    verb, _, rest = line.strip().partition(" ")
    if verb == "ufrag":
        connection.remote_username = rest
    elif verb == "pwd":
        connection.remote_password = rest
    elif verb == "cand":
        # aioice wants the value without its name.
        await connection.add_remote_candidate(aioice.Candidate.from_sdp(rest.removeprefix("candidate:")))
    elif verb == "end":
        await connection.add_remote_candidate(None)
    elif verb == "start":
        return asyncio.create_task(connect(connection, patience))
    elif verb == "send":
        await connection.send(bytes.fromhex(rest))
    else:
        say("error unknown line:", line)
    return None


def place(text):
    if not text:
        return None
    host, _, port = text.rpartition(":")
    return (host, int(port))


async def main():
    arguments = read_arguments()
    connection = aioice.Connection(
        ice_controlling=arguments.controlling,
        stun_server=place(arguments.stun),
        turn_server=place(arguments.turn),
        turn_username="alice",
        turn_password="secret",
        turn_transport=arguments.turn_transport,
        transport_policy=aioice.TransportPolicy.RELAY if arguments.relay_only else aioice.TransportPolicy.ALL,
    )
    connection.remote_is_lite = arguments.peer_is_lite
    await connection.gather_candidates()
    say("ufrag", connection.local_username)
    say("pwd", connection.local_password)
    for candidate in connection.local_candidates:
        say("cand", "candidate:" + candidate.to_sdp())
    say("end")

    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    tasks = []
    while line := (await lines.readline()).decode():
        if line.strip() == "quit":
            break
        if task := await hear(connection, line, arguments.patience):
            tasks.append(task)
    await connection.close()
    for task in tasks:
        task.cancel()


asyncio.run(main())
