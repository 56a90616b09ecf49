"""Settings that check themselves, the command line, and the YAML files of agents, schedules and benchmarks."""
