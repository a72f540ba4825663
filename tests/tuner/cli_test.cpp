// The command line of info, profile, plan, explain, simulate and synthesize, through the built
// binary.
#include "tuner/cli.h"

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>

#include "kernels/error.h"
#include "profiles/profile_yaml.h"
#include "tests/sim/fixtures.h"
#include "tests/tuner/run_binary.h"
#include "tuner/model_source.h"
#include "tuner/plan_yaml.h"

namespace tandem {
namespace {

constexpr const char* kModelFile = TANDEM_SOURCE_DIR "/tests/data/llama-q8_0.gguf";

/// A folder with the profile of a machine on paper: two equal units at 10 GB/s each.
struct Workplace {
  TemporaryFolder folder;

  Workplace() {
    MachineProfile machine = fixtures::machine_of({unit("cpu0", 0), unit("cpu1", 1)});
    machine.date = "2026-11-23T00:00:00Z";
    machine.tool_version = "0.1.0";
    machine.machine.cpu = "paper CPU";
    machine.machine.cores = {0, 1};
    machine.machine.memory_bytes = int64_t{8} << 30;
    machine.machine.isas = "generic";
    machine.machine.kernel = "6.0";
    machine.conditions = {.state = "near", .probe = {1e-7, 2e10}, .measured_outside = 0};
    machine.links = {{"cpu0", "cpu1", {1e-7, 0}}, {"cpu1", "cpu0", {1e-7, 0}}};
    machine.contention = {{{"cpu0", "cpu1"}, {2e10, 0}, {}, {1, 0}}};
    machine.fingerprint = profile_fingerprint(machine);
    write_profile(machine, (folder / "machine.yaml").string());
  }
  static UnitProfile unit(const std::string& name, int core) {
    UnitProfile profile = fixtures::reader(name, 1e10);
    profile.unit.cores = {core};
    profile.barrier_s = {1e-6, 0};
    for (LinearCurve& curve : profile.linear) curve.dtype = DType::kQ8_0;
    profile.prepare[0].dtype = DType::kQ8_0;
    return profile;
  }
  Finished run(const std::string& arguments) const { return run_tandem(folder, arguments); }
  nlohmann::json json(const std::string& arguments) const {
    const Finished finished = run(arguments + " --json");
    CAPTURE(arguments);
    CAPTURE(finished.err);
    REQUIRE(finished.exit_code == 0);
    return nlohmann::json::parse(finished.out);
  }
};

TEST_CASE("Alone, tandem prints its help; --version its version") {
  const Workplace place;
  CHECK(place.run("").exit_code == 0);
  CHECK(place.run("").out.find("tandem profile --quick") != std::string::npos);
  CHECK(place.run("--version").out == "tandem 0.1.0\n");
}

TEST_CASE("Output that cannot be written is an error") {
  const Workplace place;
  const Finished finished = place.run("info --json >/dev/full");
  CHECK(finished.exit_code == 2);
  CHECK(finished.err.find("standard output") != std::string::npos);
}

TEST_CASE("Every command has help with an example") {
  const Workplace place;
  for (const std::string command : {"info", "profile", "plan", "explain", "simulate", "run",
                                    "validate", "compare", "synthesize"}) {
    CAPTURE(command);
    const Finished help = place.run(command + " --help");
    CHECK(help.exit_code == 0);
    CHECK(help.err.empty());
    CHECK(help.out.find("Example: ") != std::string::npos);
  }
}

struct BadInput {
  std::string arguments;
  std::string message;  ///< part of the one line
};

/// Exit code 2, one line that begins with "tandem: ", and the folder as it was.
void check_refused(const Workplace& place, const BadInput& bad) {
  CAPTURE(bad.arguments);
  const std::set<std::string> before = place.folder.names();
  const Finished finished = place.run(bad.arguments);
  CAPTURE(finished.err);
  CHECK(finished.exit_code == 2);
  CHECK(finished.err.starts_with("tandem: "));
  CHECK(std::count(finished.err.begin(), finished.err.end(), '\n') == 1);
  CHECK(finished.err.find(bad.message) != std::string::npos);
  CHECK(finished.out.empty());
  CHECK(place.folder.names() == before);
}

TEST_CASE("A wrong command line ends with one line that names what is wrong, and exit code 2") {
  const Workplace place;
  check_refused(place, {"dance", "dance"});
  check_refused(place, {"info --dance", "--dance"});
  check_refused(place, {"plan", "--model"});
  check_refused(place, {"plan --model tinyllama-1.1b --context -5", "--context"});
  check_refused(place, {"plan --model tinyllama-1.1b --tokens 0", "--tokens"});
  check_refused(place, {"synthesize tinyllama-1.1b", "output"});
  check_refused(place, {"explain", "plan"});
}

TEST_CASE("Bad input to plan names place and value, and writes nothing") {
  const Workplace place;
  const std::string plan = "plan --model tinyllama-1.1b ";
  check_refused(place, {"plan --model absent.gguf", "absent.gguf"});
  check_refused(place, {plan + "--dtype q9", "--dtype: unknown dtype 'q9'"});
  check_refused(place, {plan + "--machine absent.yaml", "tandem profile -o absent.yaml"});
  check_refused(place,
                {plan + "--kv q4_0", "--kv: 'q4_0' is no dtype of a KV cache, expected f16"});
  check_refused(place, {plan + "--budget cpu0", "--budget: 'cpu0'"});
  check_refused(place, {plan + "--budget cpu0=much", "--budget cpu0: 'much'"});
  check_refused(place, {plan + "--budget gpu7=1GiB", "no unit 'gpu7'"});
  check_refused(place, {plan + "--units cpu0,gpu7", "no unit 'gpu7'"});
  check_refused(place, {plan + "--context 100000", "2048 positions"});
  check_refused(place, {plan + "--set units.cpu0.wheels=4", "wheels"});
  check_refused(place, {plan + "-o missing/plan.yaml", "missing"});
  check_refused(place, {plan + "-o .", "is a folder or a device"});
  std::filesystem::create_symlink("/dev/null", place.folder / "device");
  check_refused(place, {plan + "-o device", "is a folder or a device"});
  check_refused(place, {plan + "--budget cpu0=1MiB,cpu1=1MiB", "MiB"});
}

TEST_CASE("A profile with an unknown key is refused with its line") {
  const Workplace place;
  std::ofstream(place.folder / "machine.yaml", std::ios::app) << "wheels: 4\n";
  check_refused(place, {"simulate --model tinyllama-1.1b", "wheels"});
}

TEST_CASE("Bad input to the other commands is refused too") {
  const Workplace place;
  check_refused(place, {"profile --units 'cpu0=99999'", "99999"});
  check_refused(place, {"profile --dtypes q4_0,q9", "--dtypes: unknown dtype 'q9'"});
  check_refused(place, {"profile -o missing/machine.yaml", "missing"});
  check_refused(place, {"explain absent.yaml", "absent.yaml"});
  check_refused(place, {"simulate", "--model"});
  check_refused(place, {"simulate --model tinyllama-1.1b --parents 0", "parent"});
  check_refused(place, {"simulate --model tinyllama-1.1b --parents -1,x", "--parents: 'x'"});
  check_refused(place, {"simulate --model tinyllama-1.1b --parents -1,0 --tokens 3", "3"});
  check_refused(place, {"synthesize no-such-shape -o x.gguf", "no-such-shape"});
  check_refused(place, {"synthesize tinyllama-1.1b --dtype q9 -o x.gguf", "'q9'"});
}

TEST_CASE("info states kernel sets, units and shapes, as text and as JSON") {
  const Workplace place;
  const auto info = place.json("info");
  CHECK(info.at("kernel_sets").at("compiled").back() == "generic");
  CHECK_FALSE(info.at("units").empty());
  CHECK_FALSE(info.at("machine").at("cores").empty());
  const auto& shapes = info.at("shapes");
  CHECK(std::find(shapes.begin(), shapes.end(), "tinyllama-1.1b") != shapes.end());
  CHECK(place.run("info").out.find("generic") != std::string::npos);
}

TEST_CASE("plan writes a plan that explain and simulate understand without naming the model") {
  const Workplace place;
  const std::string model = std::string("--model ") + kModelFile;
  const auto planned = place.json("plan " + model + " -o plan.yaml");
  CHECK(place.folder.names() == std::set<std::string>{"machine.yaml", "plan.yaml"});
  CHECK(planned.at("candidates").size() >= 3);  // each unit alone, and the plan
  CHECK(planned.at("predicted").at("decode_tokens_per_s").at("per_s") > 0);
  CHECK(planned.at("memory_bytes").at("cpu0").at("budget") == int64_t{8} << 30);

  const auto explained = place.json("explain plan.yaml");
  const auto& phase = explained.at("phases").at(0);
  CHECK(phase.at("makespan_s") > 0);
  CHECK(phase.at("ops").size() > 8);
  CHECK(place.run("explain plan.yaml").out.find("gate_up") != std::string::npos);

  const auto simulated = place.json("simulate --plan plan.yaml --trace t.json");
  CHECK(simulated.at("makespan_s") == phase.at("makespan_s"));
  const auto trace = nlohmann::json::parse(read_text(place.folder / "t.json"));
  CHECK(trace.at("traceEvents").size() > 8);
}

TEST_CASE("a shape's plan says its dtype, also where --model repeats the shape") {
  const Workplace place;
  place.json("plan --model tinyllama-1.1b --dtype q8_0 -o plan.yaml");  // q4_0 is the default
  const auto explained = place.json("explain plan.yaml");
  CHECK(place.json("explain plan.yaml --model tinyllama-1.1b") == explained);
  CHECK(place.json("explain plan.yaml --model tinyllama-1.1b --dtype q4_0") != explained);
  place.json("plan --model tinyllama-1.1b --dtype q4_k_m -o mix.yaml");
  CHECK(place.json("explain mix.yaml").at("dtype") == "q4_k_m");
}

/// cpu0 beside gpu0, which is ten times as fast and has 1 GiB.
void add_gpu_profile(const Workplace& place) {
  MachineProfile machine = read_profile((place.folder / "machine.yaml").string());
  UnitProfile& gpu = machine.units[1];
  gpu = fixtures::reader("gpu0", 1e11);
  gpu.unit.kind = UnitKind::kCuda;
  gpu.unit.memory = "gpu0";
  gpu.unit.memory_bytes = int64_t{1} << 30;
  gpu.barrier_s = {1e-6, 0};
  machine.links = {{"cpu0", "gpu0", {1e-7, 0}}, {"gpu0", "cpu0", {1e-7, 0}}};
  machine.contention.clear();
  write_profile(machine, (place.folder / "gpu.yaml").string());
}

TEST_CASE("A GPU's budget is its own memory, and less where --budget says so") {
  const Workplace place;
  add_gpu_profile(place);
  const std::string plan =
      std::string("plan --machine gpu.yaml -o plan.yaml --context 64 --prompt 16 --model ") +
      kModelFile;
  const auto whole = place.json(plan).at("memory_bytes");
  CHECK(whole.at("gpu0").at("budget") == int64_t{1} << 30);
  CHECK(whole.at("gpu0").at("host") > 0);  // the embedding's rows
  const int64_t needed = whole.at("gpu0").at("weights").get<int64_t>() +
                         whole.at("gpu0").at("kv").get<int64_t>() +
                         whole.at("gpu0").at("workspace").get<int64_t>();
  const int64_t less = needed * 9 / 10;
  const auto part = place.json(plan + " --budget gpu0=" + std::to_string(less)).at("memory_bytes");
  CHECK(part.at("gpu0").at("budget") == less);
  CHECK(part.at("cpu0").at("budget") == int64_t{8} << 30);
  CHECK(part.at("gpu0").at("weights") < whole.at("gpu0").at("weights"));
  // Nor can a budget be larger than the memory.
  const auto capped = place.json(plan + " --budget gpu0=64GiB").at("memory_bytes");
  CHECK(capped.at("gpu0").at("budget") == int64_t{1} << 30);
}

TEST_CASE("--layer-granular writes whole layers: the first on the GPU, the others elsewhere") {
  const Workplace place;
  add_gpu_profile(place);
  const std::string plan =
      "plan --machine gpu.yaml --model tinyllama-1.1b --dtype q8_0 --context 64 --prompt 16 ";
  place.json(plan + "--layer-granular --budget gpu0=600MiB -o layers.yaml");
  const Plan layers = read_plan((place.folder / "layers.yaml").string(),
                                open_spec({.model = "tinyllama-1.1b", .dtype = DType::kQ8_0}));
  const auto unit_of = [&](int64_t layer) {
    const LinearSplit& down = layer_plan(layers.phases.front(), layer).down;
    REQUIRE(down.size() == 1);
    return layers.units[static_cast<size_t>(down.front().unit)];
  };
  CHECK(unit_of(0) == "gpu0");
  CHECK(unit_of(21) == "cpu0");
  for (int64_t layer = 1; layer < 22; ++layer)
    if (unit_of(layer) == "gpu0") CHECK(unit_of(layer - 1) == "gpu0");
  check_refused(place, {plan + "--layer-granular -o none.yaml", "no budget binds"});
}

TEST_CASE(
    "A model that a GPU has no memory for is refused on it alone, and planned with the host's") {
  const Workplace place;
  add_gpu_profile(place);
  const std::string plan = "plan --machine gpu.yaml -o plan.yaml --model llama-2-7b ";
  check_refused(place, {plan + "--units gpu0", "gpu0 needs "});
  check_refused(place, {plan + "--units gpu0", " of 1.00 GiB"});
  CHECK(place.run(plan).exit_code == 0);
}

TEST_CASE("explain without a profile tells shares and bytes, and no times") {
  const Workplace place;
  REQUIRE(place.run(std::string("plan -o plan.yaml --model ") + kModelFile).exit_code == 0);
  std::filesystem::remove(place.folder / "machine.yaml");
  const auto explained = place.json("explain plan.yaml");
  CHECK(explained.at("machine").is_null());
  CHECK_FALSE(explained.at("phases").at(0).contains("makespan_s"));
}

TEST_CASE("A what-if changes what is simulated: half the bandwidth takes longer") {
  const Workplace place;
  const std::string simulate = std::string("simulate --context 0 --model ") + kModelFile;
  const double before = place.json(simulate).at("makespan_s");
  const double after =
      place.json(simulate + " --set units.cpu0.dram_read_per_s=1e9 --set units.cpu1.barrier_s=1e-3")
          .at("makespan_s");
  CHECK(before > 0);
  CHECK(after >= before);
}

TEST_CASE("A tree of tokens is simulated as one step") {
  const Workplace place;
  const auto tree =
      place.json(std::string("simulate --context 0 --parents -1,0,0,1 --model ") + kModelFile);
  CHECK(tree.at("step").at("tokens") == 4);
  const double seconds = tree.at("makespan_s");
  CHECK(tree.at("tokens_per_s").at("per_s") == doctest::Approx(4 / seconds));
}

TEST_CASE("A KV cache is of the format asked for; one that heads cannot have is refused") {
  const Workplace place;
  const auto kv_bytes = [&](const std::string& format) {
    const auto planned = place.json("plan --model tinyllama-1.1b -o plan.yaml --kv " + format);
    const bool warned =
        planned.at("warnings").dump().find("KV cache of " + format) != std::string::npos;
    CHECK(warned == (format != "f16"));
    CHECK(read_text(place.folder / "plan.yaml").find("kv: " + format) != std::string::npos);
    int64_t bytes = 0;
    for (const auto& [unit, use] : planned.at("memory_bytes").items())
      bytes += use.at("kv").get<int64_t>();
    return bytes;
  };
  const int64_t of_f16 = kv_bytes("f16");
  CHECK(kv_bytes("bf16") == of_f16);
  CHECK(kv_bytes("q8_0") == of_f16 * 34 / 64);
  std::ofstream(place.folder / "narrow.yaml")
      << "model_type: llama\nhidden_size: 64\nintermediate_size: 96\nnum_hidden_layers: 2\n"
         "num_attention_heads: 4\nnum_key_value_heads: 2\nvocab_size: 320\n"
         "rms_norm_eps: 1.0e-5\nmax_position_embeddings: 256\n";
  for (const char* command : {"plan", "run --force --token-ids 1"})
    check_refused(place, {std::string(command) + " --model narrow.yaml --kv q8_0",
                          "--kv: q8_0 has blocks of 32 elements, which do not fill a head_dim of "
                          "16: use f16, f32 or bf16"});
}

TEST_CASE("An unmeasured dtype is planned with a warning on stderr") {
  const Workplace place;
  const Finished planned = place.run("plan --model tinyllama-1.1b --dtype bf16 -o plan.yaml");
  CHECK(planned.exit_code == 0);
  CHECK(planned.err.find("bf16") != std::string::npos);
}

TEST_CASE("A synthesized shape is a GGUF with its dtype; the seed decides its bytes") {
  const Workplace place;
  std::ofstream(place.folder / "small.yaml")
      << "model_type: llama\nhidden_size: 64\nintermediate_size: 96\nnum_hidden_layers: 2\n"
         "num_attention_heads: 4\nnum_key_value_heads: 2\nvocab_size: 320\n"
         "rms_norm_eps: 1.0e-5\nmax_position_embeddings: 256\n";
  const auto bytes = [&](const std::string& seed) {
    const Finished written =
        place.run("synthesize small.yaml --dtype q8_0 --seed " + seed + " -o x.gguf");
    CAPTURE(written.err);
    CHECK(written.exit_code == 0);
    CHECK(written.err.find("100 %") != std::string::npos);  // lines in a pipe
    return read_text(place.folder / "x.gguf");
  };
  const std::string first = bytes("1");
  const ModelSpec spec = read_gguf_spec((place.folder / "x.gguf").string());
  CHECK(main_dtype(spec) == DType::kQ8_0);
  CHECK(spec.num_layers == 2);
  CHECK(bytes("1") == first);
  CHECK(bytes("2") != first);
}

/// Starts to write gigabytes in `folder`.
pid_t start_synthesis(const TemporaryFolder& folder) {
  const pid_t process = fork();
  if (process != 0) return process;
  std::filesystem::current_path(folder.path());
  execl(TANDEM_BINARY, "tandem", "synthesize", "llama-3-8b", "--quiet", "-o", "x.gguf", nullptr);
  _exit(127);
}

TEST_CASE("Ctrl-C leaves no file behind") {
  const TemporaryFolder folder;
  const pid_t process = start_synthesis(folder);
  int status = 0;
  while (folder.names().empty() && waitpid(process, &status, WNOHANG) == 0) usleep(1000);
  REQUIRE(folder.names().size() == 1);  // the temporary file
  kill(process, SIGINT);
  waitpid(process, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(folder.names().empty());
}

}  // namespace
}  // namespace tandem
