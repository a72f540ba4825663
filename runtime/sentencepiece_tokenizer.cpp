#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <cassert>
#include <charconv>
#include <cstdint>
#include <utility>

#include "runtime/gguf.h"
#include "runtime/sentencepiece_model.h"
#include "runtime/special_tokens.h"
#include "runtime/tokenizer.h"

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
        specials_(vocabulary, {token_type::kControl, token_type::kUnknown}),
        bos_(vocabulary.bos),
        eos_(vocabulary.eos),
        add_bos_(vocabulary.add_bos.value_or(true)),
        add_eos_(vocabulary.add_eos) {}

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    if (add_bos_) ids.push_back(bos_);
    for (const TextRun& run : specials_.split(text)) {
      if (run.token >= 0)
        ids.push_back(run.token);
      else
        append(run.text, ids);
    }
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
  /// With the vocabulary's space in front, as llama.cpp puts it after a control token too.
  void append(std::string_view text, std::vector<int32_t>& ids) const {
    std::vector<int> pieces;
    [[maybe_unused]] const auto status = processor_->Encode({text.data(), text.size()}, &pieces);
    assert(status.ok());
    ids.insert(ids.end(), pieces.begin(), pieces.end());
  }

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  SpecialTokens specials_;  ///< user-defined tokens are found by the library
  int32_t bos_, eos_;
  bool add_bos_, add_eos_;
};

}  // namespace

std::unique_ptr<Tokenizer> open_sentencepiece_tokenizer(const Vocabulary& vocabulary,
                                                        std::string& why) {
  const size_t size = vocabulary.tokens.size();
  if (vocabulary.scores.size() != size || vocabulary.types.size() != size) {
    why = "the vocabulary lacks scores or token types";
    return nullptr;
  }
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
