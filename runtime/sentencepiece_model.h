// A SentencePiece model file made from a GGUF's vocabulary.
#pragma once

#include <string>

#include "runtime/model.h"

namespace tandem {

/// A serialised sentencepiece.ModelProto (github.com/google/sentencepiece,
/// sentencepiece_model.proto) with the vocabulary's pieces, as a BPE model with byte fallback that
/// leaves text as it is but for the space in front. Scores and types must be as many as tokens.
std::string sentencepiece_model(const Vocabulary& vocabulary);

}  // namespace tandem
