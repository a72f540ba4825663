#include "profiles/profile_yaml.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "kernels/error.h"
#include "tests/profiles/sample_profile.h"

using namespace tandem;

namespace {

/// A file that goes away with the test.
struct TemporaryProfile {
  std::string path =
      std::filesystem::temp_directory_path() / fmt::format("tandem_profile_{}.yaml", getpid());
  explicit TemporaryProfile(const std::string& text) { std::ofstream(path) << text; }
  ~TemporaryProfile() { std::filesystem::remove(path); }
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

int line_of(const std::string& text, const std::string& piece) {
  const size_t at = text.find(piece);
  REQUIRE(at != std::string::npos);
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<long>(at), '\n'));
}

/// The message that reading `text` ends with.
std::string error_of(const std::string& text) {
  const TemporaryProfile file(text);
  try {
    read_profile(file.path);
  } catch (const Error& e) {
    const std::string message = e.what();
    REQUIRE(message.starts_with(file.path));
    return message.substr(file.path.size());
  }
  return "no error";
}

}  // namespace

TEST_CASE("a profile reads back to exactly what was written") {
  MachineProfile profile = sample_profile();
  profile.units[0].dram_read_per_s = {1.0 / 3 * 1e11, 1.0 / 7};  // needs all 17 digits
  profile.conditions.probe.core_read_per_s = 1.0 / 3 * 1e11;
  profile.conditions.probe.compute_per_s = {90e9, 1.0 / 3 * 1e11};
  const TemporaryProfile file("");
  write_profile(profile, file.path);
  const MachineProfile back = read_profile(file.path);
  CHECK(profile_text(back) == profile_text(profile));
  CHECK(back.units[0].dram_read_per_s.median == 1.0 / 3 * 1e11);
  CHECK(back.machine.cpu == "A \"quoted\" CPU");
  CHECK(back.units[1].linear[1].from_dram.points[1].x == 1e6);
  CHECK(back.conditions.measured_outside == 3);
  CHECK(back.conditions.probe.core_read_per_s == 1.0 / 3 * 1e11);
  CHECK(back.conditions.probe.compute_per_s == std::vector{90e9, 1.0 / 3 * 1e11});
}

TEST_CASE("a link says what copies of results take, and where they are copied from") {
  MachineProfile profile = sample_profile();
  profile.links[1].copy = {{{4096, {2e-6, 0.01}}, {1 << 20, {1.0 / 3 * 1e-4, 0.02}}}};
  profile.links[1].direct = true;
  const TemporaryProfile file(profile_text(profile));
  const MachineProfile read = read_profile(file.path);
  CHECK(profile_text(read) == profile_text(profile));
  CHECK_FALSE(read.links[0].direct);
  CHECK(read.links[1].direct);
  CHECK(read.links[0].copy.empty());
  CHECK(read.links[1].copy.at(1 << 20).y == 1.0 / 3 * 1e-4);
}

TEST_CASE("what publishing and a plain launch take reads back, where the unit has them") {
  MachineProfile profile = sample_profile();
  profile.units[1].publish = {{{8192, {1e-6, 0.1}}, {1 << 21, {1.0 / 7 * 1e-3, 0.02}}}};
  profile.units[1].plain_launch_s = {1.0 / 3 * 1e-5, 0.1};
  const TemporaryProfile file(profile_text(profile));
  const MachineProfile read = read_profile(file.path);
  CHECK(profile_text(read) == profile_text(profile));
  CHECK(read.units[0].publish.empty());
  CHECK(read.units[0].plain_launch_s.median == 0);
  CHECK(read.units[1].publish.at(1 << 21).y == 1.0 / 7 * 1e-3);
  CHECK(read.units[1].plain_launch_s.median == 1.0 / 3 * 1e-5);
}

TEST_CASE("a machine without caches, links, contention or linear curves reads back") {
  MachineProfile profile = sample_profile();
  profile.machine.caches.clear();
  profile.links.clear();
  profile.contention.clear();
  profile.units.pop_back();
  profile.units[0].linear.clear();
  profile.units[0].prepare.clear();
  profile.units[0].attention.clear();
  const TemporaryProfile file(profile_text(profile));
  CHECK(profile_text(read_profile(file.path)) == profile_text(profile));
}

TEST_CASE("a GPU's device and memory read back, and an unknown size stays unknown") {
  MachineProfile profile = sample_profile();
  Unit& gpu = profile.units[1].unit;
  gpu.kind = UnitKind::kCuda;
  gpu.index = 1;
  gpu.memory = "gpu1";
  for (const int64_t bytes : {int64_t{80} << 30, int64_t{0}}) {
    gpu.memory_bytes = bytes;
    const TemporaryProfile file(profile_text(profile));
    const Unit back = read_profile(file.path).units[1].unit;
    CHECK(back.kind == UnitKind::kCuda);
    CHECK(back.index == 1);
    CHECK(back.memory_bytes == bytes);
  }
}

TEST_CASE("what is wrong in a profile is named with its line, its value and what was expected") {
  const std::string text = profile_text(sample_profile());
  struct Case {
    std::string from, to, message;
  };
  const std::vector<Case> cases{
      {"    barrier_s:", "    barier_s:", "unknown key barier_s; known: name, kind"},
      {"{median: 40000000000, ", "{median: -3, ", "median: -3 is not positive"},
      {"{median: 40000000000, ", "{median: .inf, ", "median: .inf is no number"},
      {"[1000, 1e-06, 0.01]", "[1e9, 1e-06, 0.01]", "x ascends, but 1000000 follows 1000000000"},
      {"[1000, 1e-06, 0.01]", "[1000, 1e-06]", "a point is [x, y, spread]"},
      {"[[2048, 3e-07, 0.1]]", "[]", "seconds: a curve needs at least one point"},
      {"tokens: 16", "tokens: 1", "tokens of one dtype ascend, but 1 follows 1"},
      {"dtype: q4_0", "dtype: q9_9", "unknown dtype 'q9_9'"},
      {"kind: cpu", "kind: tpu", "'tpu' is neither cpu nor cuda"},
      {"from: \"cpu0\"", "from: \"gpu0\"", "there is no unit named 'gpu0'"},
      {"version: 1", "version: 2", "version 2 is not 1; profile again"},
      {"cores: [0]", "cores: []", "cores: at least one core is needed"}};
  for (const Case& c : cases) {
    CAPTURE(c.to);
    const std::string message = error_of(replaced(text, c.from, c.to));
    CHECK_MESSAGE(message.find(c.message) != std::string::npos, message);
    const int line = std::stoi(message.substr(1));
    CHECK(line == line_of(text, c.from));
  }
}

TEST_CASE("a missing key is named, and so is a file that is not there") {
  const std::string text = profile_text(sample_profile());
  CHECK(error_of(replaced(text, "fingerprint: \"0123456789abcdef\"\n", ""))
            .find("fingerprint is missing") != std::string::npos);
  CHECK_THROWS_WITH_AS(read_profile("/nowhere/machine.yaml"),
                       doctest::Contains("/nowhere/machine.yaml"), Error);
}

TEST_CASE("the fingerprint follows the machine, its units and the tool, not the figures") {
  const MachineProfile profile = sample_profile();
  const std::string fingerprint = profile_fingerprint(profile);
  CHECK(fingerprint.size() == 16);
  MachineProfile other = profile;
  other.units[0].dram_read_per_s.median *= 2;
  other.date = "later";
  CHECK(profile_fingerprint(other) == fingerprint);
  other.units[0].unit.isa = "avx2";
  CHECK(profile_fingerprint(other) != fingerprint);
  other = profile;
  other.machine.kernel = "6.2.0";
  CHECK(profile_fingerprint(other) != fingerprint);
  other = profile;
  other.tool_version = "0.2.0";
  CHECK(profile_fingerprint(other) != fingerprint);
}

TEST_CASE("a unit that streams has a rate, and its link takes part in contention") {
  MachineProfile profile = sample_profile();
  profile.units[1].unit.kind = UnitKind::kCuda;
  profile.units[0].cold_start_s = {4e-6, 0.2};
  profile.units[0].row_slowdowns = {{DType::kQ4_0, {{{512, {1.05, 0.01}}, {6144, {1.15, 0.02}}}}}};
  profile.units[1].stream_per_s = {12e9, 0.01};
  profile.units[1].stream_slowdown = {1.02, 0.01};
  profile.contention.push_back({{"cpu0", "cpu1.streamed"}, {44e9, 0.01}, {}, {1, 0}});
  const std::string text = profile_text(profile);
  const TemporaryProfile file(text);
  const MachineProfile back = read_profile(file.path);
  CHECK(profile_text(back) == text);
  CHECK(back.units[0].cold_start_s.median == 4e-6);
  REQUIRE(back.units[0].row_slowdowns.size() == 1);
  CHECK(back.units[0].row_slowdowns[0].dtype == DType::kQ4_0);
  CHECK(back.units[0].row_slowdowns[0].by_k.at(6144).y == 1.15);
  CHECK(back.units[1].stream_per_s.median == 12e9);
  CHECK(back.units[1].stream_slowdown.median == 1.02);
  CHECK(back.contention[1].units[1] == "cpu1.streamed");
  CHECK(error_of(replaced(text, "cpu1.streamed", "cpu7.streamed"))
            .find("there is no unit named 'cpu7.streamed'") != std::string::npos);
}
