// The same GGUF in llama.cpp's llama-bench, in alternation with this program.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem {

struct PeerOptions {
  std::string program;                 ///< llama-bench
  std::string arguments;               ///< of its own, as a shell takes them: "-fa 1"
  std::string folder = "build/bench";  ///< where the GGUFs lie, or are written
  int64_t prefill = 512;               ///< tokens; 0 = none
  int64_t new_tokens = 32;             ///< of a decode
  int64_t depth = 0;  ///< of a second decode; 0 = none. llama-bench prefills it every time
  int rounds = 5;
};

/// One thing that both did: decode of new tokens one by one, or one step of `tokens`.
struct PeerRow {
  bool decode = false;
  int64_t tokens = 0;
  int64_t depth = 0;      ///< positions in the cache before
  double ours_per_s = 0;  ///< tokens/s, median over rounds
  double peers_per_s = 0;
  double ratio = 0;   ///< median of ours over the peer's of the same round
  double spread = 0;  ///< interquartile range of that over it
};

/// Decode, steps of 2 to 16 tokens and prefill with weights of one dtype or mix, on as many threads
/// as there are cores. Error where the peer fails or leaves a row out.
std::vector<PeerRow> bench_against_peer(const std::string& shape, const std::string& dtype,
                                        const std::vector<int>& cores, const PeerOptions& options);

}  // namespace tandem
