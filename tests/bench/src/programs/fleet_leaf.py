# consolidation-24h in LEAF: leaf.py FOLDER NODES SERVICES TICKS
# Loads are whole numbers (cores times 10000), because LEAF refuses to release what a rounding took away.
# LEAF has no migration that takes time: a service is allocated elsewhere from its tick on.
import array
import json
import resource
import sys
import time

import simpy
from leaf.application import Task
from leaf.infrastructure import Node
from leaf.power import PowerMeter, PowerModelNode

folder, nodes, services, ticks = sys.argv[1], *map(int, sys.argv[2:5])
TICK = 300

shares = array.array("H")
with open(f"{folder}/shares", "rb") as file:
    shares.frombytes(file.read())
if sys.byteorder == "big":
    shares.byteswap()
moves = {}
with open(f"{folder}/moves") as file:
    for line in file:
        tick, service, to = map(int, line.split())
        moves.setdefault(tick, []).append((service, to))

start = time.perf_counter()
env = simpy.Environment()
hosts = [
    Node(f"n{index}", cu=16 * 10000, power_model=PowerModelNode(max_power=250, static_power=100))
    for index in range(nodes)
]
on = [service // 4 for service in range(services)]
tasks = [Task(cu=0) for _ in range(services)]
moved = 0


def day():
    global moved
    for tick in range(ticks):
        if tick:
            for task in tasks:
                task.deallocate()
        for service, to in moves.get(tick, []):
            on[service] = to
            moved += 1
        row = tick * services
        for service, task in enumerate(tasks):
            task.cu = 2 * shares[row + service]
            task.allocate(hosts[on[service]])
        yield env.timeout(TICK)


meter = PowerMeter(hosts, measurement_interval=TICK)
env.process(day())
# In the middle of each tick; nothing changes within one.
env.process(meter.run(env, delay=TICK / 2))
env.run(until=ticks * TICK)
seconds = time.perf_counter() - start

joules = sum(float(one) for one in meter.measurements) * TICK
print(json.dumps({
    "seconds": seconds,
    "kwh": joules / 3.6e6,
    "migrations": moved,
    "mean_migration": None,
    "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
}))
