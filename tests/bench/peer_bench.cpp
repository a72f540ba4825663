#include "bench/peer_bench.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <stdio.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "bench/bench_machine.h"
#include "kernels/error.h"
#include "profiles/measure.h"
#include "runtime/executor.h"
#include "tuner/cli.h"
#include "tuner/legal_plans.h"
#include "tuner/model_source.h"

namespace tandem {
namespace {

struct Close {
  void operator()(FILE* pipe) const { pclose(pipe); }
};

/// What a shell command prints. Error where it fails.
std::string output_of(const std::string& command) {
  std::unique_ptr<FILE, Close> pipe(popen(command.c_str(), "r"));
  if (!pipe) throw Error("cannot start " + command);
  std::string text;
  char part[4096];
  for (size_t n = 0; (n = fread(part, 1, sizeof part, pipe.get())) > 0;) text.append(part, n);
  if (pclose(pipe.release()) != 0) throw Error("failed: " + command);
  return text;
}

std::string quoted(const std::string& word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string gguf_of(const std::string& shape, const std::string& dtype, const std::string& folder) {
  std::filesystem::create_directories(folder);
  const std::string path = fmt::format("{}/{}-{}.gguf", folder, shape, dtype);
  if (std::filesystem::exists(path)) return path;
  const ModelSpec spec = open_spec(model_source({.model = shape, .dtype = dtype, .seed = 1}));
  write_synthetic_gguf(spec, 1, path, [](int64_t, int64_t) {});
  return path;
}

std::vector<PeerRow> rows_to_measure(const PeerOptions& options) {
  std::vector<PeerRow> rows{{.decode = true, .tokens = options.new_tokens}};
  for (const int64_t width : {2, 4, 8, 16}) rows.push_back({.tokens = width});
  if (options.prefill > 0) rows.push_back({.tokens = options.prefill});
  if (options.depth > 0)
    rows.push_back({.decode = true, .tokens = options.new_tokens, .depth = options.depth});
  return rows;
}

/// Tokens/s of this program, the second time, when its buffers are warm, as llama-bench does it.
double ours_per_s(Executor& executor, const PeerRow& row) {
  std::vector<int32_t> ids(static_cast<size_t>(row.tokens));
  std::iota(ids.begin(), ids.end(), 17);
  double seconds = 0;
  for (int time = 0; time < 2; ++time) {
    executor.set_context(0);
    executor.set_context(row.depth);
    const double start_s = steady_now_s();
    if (row.decode) {
      for (const int32_t id : ids)
        executor.run({.tokens = 1, .context = executor.context(), .parents = {}}, {&id, 1});
    } else {
      executor.run({.tokens = row.tokens, .context = 0, .parents = {}}, ids);
    }
    seconds = steady_now_s() - start_s;
  }
  return static_cast<double>(row.tokens) / seconds;
}

/// llama-bench's answers to all rows, in one call for each depth.
class Peer {
 public:
  /// On these cores: an executor has pinned this thread to one of them, which a child inherits.
  Peer(const PeerOptions& options, const std::string& model, const std::vector<int>& cores)
      : options_(options),
        command_(fmt::format("taskset -c {} {} -m {} -t {} -r 1 -o json {}", fmt::join(cores, ","),
                             quoted(options.program), quoted(model), cores.size(),
                             options.arguments)) {}

  std::vector<double> tokens_per_s(const std::vector<PeerRow>& rows) const {
    std::string prompts;
    for (const PeerRow& row : rows)
      if (!row.decode) prompts += fmt::format("{}{}", prompts.empty() ? "" : ",", row.tokens);
    auto answers = run(fmt::format("-n {} -p {}", options_.new_tokens, prompts));
    if (options_.depth > 0)
      for (auto& answer : run(fmt::format("-n {} -p 0 -d {}", options_.new_tokens, options_.depth)))
        answers.push_back(answer);
    std::vector<double> rates;
    for (const PeerRow& row : rows) rates.push_back(rate_of(answers, row));
    return rates;
  }

 private:
  nlohmann::json run(const std::string& arguments) const {
    return nlohmann::json::parse(output_of(command_ + " " + arguments + " 2>/dev/null"));
  }

  double rate_of(const nlohmann::json& answers, const PeerRow& row) const {
    for (const auto& answer : answers)
      if (answer.at("n_gen") == (row.decode ? row.tokens : 0) &&
          answer.at("n_prompt") == (row.decode ? 0 : row.tokens) &&
          answer.value("n_depth", 0) == row.depth)
        return answer.at("avg_ts");
    throw Error(fmt::format("no row of {} tokens at {} from: {}", row.tokens, row.depth, command_));
  }

  const PeerOptions& options_;
  std::string command_;
};

}  // namespace

std::vector<PeerRow> bench_against_peer(const std::string& shape, const std::string& dtype,
                                        const std::vector<int>& cores, const PeerOptions& options) {
  const std::string path = gguf_of(shape, dtype, options.folder);
  const Model model = open_gguf(path);
  std::vector<PeerRow> rows = rows_to_measure(options);
  const Peer peer(options, path, cores);
  Executor executor(model, even_plan(model.spec, {"cpu0"}), {whole_unit(cores)},
                    {.max_context = options.depth + std::max(options.prefill, options.new_tokens),
                     .max_tokens = std::max<int64_t>(options.prefill, 16),
                     .max_logits_rows = 1,
                     .release_source = false,
                     .progress = {}});
  std::vector<std::vector<double>> ours(rows.size()), peers(rows.size()), ratios(rows.size());
  for (int round = 0; round < options.rounds; ++round) {
    const std::vector<double> theirs = peer.tokens_per_s(rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      ours[i].push_back(ours_per_s(executor, rows[i]));
      peers[i].push_back(theirs[i]);
      ratios[i].push_back(ours[i].back() / theirs[i]);
    }
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].ours_per_s = figure_of(ours[i]).median;
    rows[i].peers_per_s = figure_of(peers[i]).median;
    rows[i].ratio = figure_of(ratios[i]).median;
    rows[i].spread = figure_of(ratios[i]).spread;
  }
  return rows;
}

}  // namespace tandem
