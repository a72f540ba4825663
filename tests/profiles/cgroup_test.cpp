#include "profiles/cgroup.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

using namespace tandem;
namespace fs = std::filesystem;

namespace {

/// A made-up tree of control groups that goes away with the test.
struct FakeCgroups {
  fs::path root = fs::temp_directory_path() / ("tandem_cgroup_" + std::to_string(getpid()));
  explicit FakeCgroups(const std::string& membership) { write("membership", membership); }
  ~FakeCgroups() { fs::remove_all(root); }
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((root / name).parent_path());
    std::ofstream(root / name) << text;
  }
  CgroupFiles files() const { return {root / "membership", root}; }
};

}  // namespace

TEST_CASE("the tightest limit of a group and those above it holds") {
  const FakeCgroups groups("0::/box/job\n");
  groups.write("box/job/memory.max", "max\n");
  groups.write("box/memory.max", "4096\n");
  groups.write("memory.max", "8192\n");
  groups.write("box/job/cpu.max", "150000 100000\n");
  groups.write("box/cpu.max", "max 100000\n");
  CHECK(cgroup_memory_limit(groups.files()) == 4096);
  CHECK(cgroup_cpu_limit(groups.files()) == 1.5);
}

TEST_CASE("limits of version 1 lie below their controller") {
  const FakeCgroups groups("5:cpu,cpuacct:/box\n3:memory:/box\n");
  groups.write("memory/box/memory.limit_in_bytes", "1048576\n");
  groups.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
  groups.write("cpu/box/cpu.cfs_quota_us", "200000\n");
  groups.write("cpu/box/cpu.cfs_period_us", "100000\n");
  groups.write("cpu/cpu.cfs_quota_us", "-1\n");
  CHECK(cgroup_memory_limit(groups.files()) == 1048576);
  CHECK(cgroup_cpu_limit(groups.files()) == 2.0);
}

TEST_CASE("no limit and no control groups both mean none") {
  const FakeCgroups groups("3:memory:/\n");
  groups.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
  CHECK_FALSE(cgroup_memory_limit(groups.files()));
  CHECK_FALSE(cgroup_cpu_limit(groups.files()));
  CHECK_FALSE(cgroup_memory_limit({"/nowhere/membership", "/nowhere"}));
}
