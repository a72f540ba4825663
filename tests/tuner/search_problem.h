// What tests of the search plan: a model of enough blocks to divide, and decoding alone.
#pragma once

#include "tests/tuner/tiny_model.h"
#include "tuner/search.h"

namespace tandem {

inline constexpr TinyShape kDivisible{
    .hidden = 256, .intermediate = 1024, .kv_heads = 4, .vocab = 2048};

inline SearchOptions decode_only(int64_t context = 0) {
  SearchOptions options;
  options.workload = {.context = context, .tokens = 1, .prompt = 0};
  return options;
}

}  // namespace tandem
