#include "runtime/tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <cassert>
#include <charconv>
#include <cstdint>
#include <utility>

#include "runtime/gguf.h"
#include "runtime/sentencepiece_model.h"

namespace tandem {
namespace {

constexpr std::string_view kSpace = "\xe2\x96\x81";  ///< U+2581 stands for a space in pieces

std::string with_spaces(std::string piece) {
  for (size_t at = piece.find(kSpace); at != std::string::npos; at = piece.find(kSpace, at + 1))
    piece.replace(at, kSpace.size(), 1, ' ');
  return piece;
}

/// The byte of a piece "<0xHH>".
std::string byte_of(const std::string& piece) {
  unsigned value = 0;
  if (piece.size() == 6) std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
  return {static_cast<char>(value)};
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(const Vocabulary& vocabulary,
                         std::unique_ptr<sentencepiece::SentencePieceProcessor> processor)
      : processor_(std::move(processor)),
        bos_(vocabulary.bos),
        eos_(vocabulary.eos),
        add_bos_(vocabulary.add_bos),
        add_eos_(vocabulary.add_eos) {}

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int> pieces;
    [[maybe_unused]] const auto status = processor_->Encode({text.data(), text.size()}, &pieces);
    assert(status.ok());
    std::vector<int32_t> ids;
    if (add_bos_) ids.push_back(bos_);
    ids.insert(ids.end(), pieces.begin(), pieces.end());
    if (add_eos_) ids.push_back(eos_);
    return ids;
  }

  std::string piece(int32_t token) const override {
    if (processor_->IsControl(token) || processor_->IsUnknown(token)) return {};
    const std::string text = processor_->IdToPiece(token);
    return processor_->IsByte(token) ? byte_of(text) : with_spaces(text);
  }

  bool is_end(int32_t token) const override { return token == eos_; }

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  int32_t bos_, eos_;
  bool add_bos_, add_eos_;
};

/// Why a vocabulary is none the library can take, or nothing.
std::string objection(const Vocabulary& vocabulary) {
  if (vocabulary.model != "llama")
    return fmt::format("the vocabulary is of kind '{}', only SentencePiece ('llama') is supported",
                       printable(vocabulary.model));
  const size_t size = vocabulary.tokens.size();
  if (vocabulary.scores.size() != size || vocabulary.types.size() != size)
    return "the vocabulary lacks scores or token types";
  return {};
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::open(const Vocabulary& vocabulary, std::string& why) {
  why = objection(vocabulary);
  if (!why.empty()) return nullptr;
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto(sentencepiece_model(vocabulary));
  if (!status.ok()) {
    why =
        fmt::format("the vocabulary is refused by sentencepiece: {}", printable(status.message()));
    return nullptr;
  }
  return std::make_unique<SentencePieceTokenizer>(vocabulary, std::move(processor));
}

}  // namespace tandem
