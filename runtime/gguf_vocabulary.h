// The vocabulary that a GGUF states under tokenizer.ggml.*.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/gguf.h"
#include "runtime/model.h"

namespace tandem {

/// Nothing where the file has no vocabulary. Error where its arrays do not have vocab_size entries
/// or a special token is not one of them.
std::optional<Vocabulary> read_vocabulary(const Gguf& gguf, int64_t vocab_size);

}  // namespace tandem
