// consolidation-24h in SimGrid: simgrid FOLDER NODES SERVICES TICKS
//
// Each service is a virtual machine with one endless task, capped anew at every tick: it is the machine's cap that SimGrid
// honours, not that of the task. A node's 16 cores are 8 of twice the speed, so that one task can use all that its service asks
// for. Moves are SimGrid's own live migration, with what the service writes in proportion to what it computes.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <simgrid/plugins/energy.h>
#include <simgrid/plugins/live_migration.h>
#include <simgrid/s4u.hpp>
#include <simgrid/s4u/VirtualMachine.hpp>

namespace sg = simgrid::s4u;

static const double tick_seconds = 300, speed = 2e9;

int main(int argc, char** argv)
{
  sg::Engine engine(&argc, argv);
  if (argc < 5)
    return 2;
  const std::string folder = argv[1];
  const size_t services    = std::stoul(argv[3]);
  const int ticks          = std::stoi(argv[4]);

  std::vector<unsigned char> bytes(services * ticks * 2);
  std::ifstream(folder + "/shares", std::ios::binary).read(reinterpret_cast<char*>(bytes.data()), bytes.size());
  std::multimap<int, std::pair<size_t, size_t>> moves;
  {
    std::ifstream file(folder + "/moves");
    int tick;
    size_t service, to;
    while (file >> tick >> service >> to)
      moves.insert({tick, {service, to}});
  }

  const auto start = std::chrono::steady_clock::now();
  sg_host_energy_plugin_init();
  sg_vm_live_migration_plugin_init();
  engine.load_platform(folder + "/platform.xml");
  std::vector<sg::Host*> nodes;
  for (size_t index = 0; index < std::stoul(argv[2]); index++)
    nodes.push_back(sg::Host::by_name("n" + std::to_string(index)));

  size_t moved = 0;
  double moving = 0;
  sg::Actor::create("day", nodes[0], [&] {
    std::vector<sg::VirtualMachine*> machines;
    for (size_t index = 0; index < services; index++) {
      // MiB, MiB/s, and written per second while it computes at full speed, in percent of the link.
      auto* machine = sg_vm_create_migratable(nodes[index / 4], ("s" + std::to_string(index)).c_str(), 1, 4096, 1192, 20);
      sg_vm_set_migration_speed(machine, 1.25e9);
      sg_vm_set_working_set_memory(machine, 4096.0 * 1024 * 1024 / 10);
      machine->start();
      machines.push_back(machine);
    }
    for (int tick = 0; tick < ticks; tick++) {
      // SimGrid reckons energy when an activity begins or ends. A new cap is neither, and would count for the past.
      sg_host_energy_update_all();
      for (size_t index = 0; index < services; index++) {
        const size_t at = (tick * services + index) * 2;
        machines[index]->set_bound(speed * (bytes[at] + 256 * bytes[at + 1]) / 10000.0);
      }
      if (tick == 0)
        for (auto* machine : machines)
          sg::Actor::create("task", machine, [] { sg::this_actor::execute(speed * 1e6); });
      const auto [first, last] = moves.equal_range(tick);
      for (auto move = first; move != last; ++move) {
        auto* machine = machines[move->second.first];
        auto* to      = nodes[move->second.second];
        sg::Actor::create("move", machine->get_pm(), [machine, to, &moved, &moving] {
          const double began = sg::Engine::get_clock();
          sg_vm_migrate(machine, to);
          moving += sg::Engine::get_clock() - began;
          moved++;
        });
      }
      sg::this_actor::sleep_until((tick + 1) * tick_seconds);
    }
    sg_host_energy_update_all();
    double joules = 0;
    for (auto* node : nodes)
      joules += sg_host_get_consumed_energy(node);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    std::printf("{\"seconds\": %.6f, \"kwh\": %.9f, \"migrations\": %zu, \"mean_migration\": ", seconds, joules / 3.6e6, moved);
    if (moved > 0)
      std::printf("%.6f", moving / moved);
    else
      std::printf("null");
    std::printf(", \"peak_kib\": %ld}\n", usage.ru_maxrss);
    std::fflush(stdout);
    // Endless tasks have no end of their own.
    std::_Exit(0);
  });
  engine.run();
  return 1;
}
